//! A real process under a supervisor that starts it again whenever it dies, as an orchestrator would.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::binary;
use super::toll::Toll;
use crate::servers::environment;

/// The longest wait until a process has stopped: longer than its `shutdown_grace` on a busy machine.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// The time between two readings of a process's memory.
const WEIGHED_EVERY: Duration = Duration::from_millis(500);
const SIGABRT: i32 = 6;

/// The parameters of a process.
#[derive(Debug)]
pub(super) struct Start {
    /// The subcommand.
    pub(super) role: &'static str,
    /// The directory with `switchboard.toml`. The log is written there, too.
    pub(super) directory: PathBuf,
    /// Failpoint orders for every start.
    pub(super) orders: String,
    /// The largest file that the process may write, in KiB.
    pub(super) longest_file_kib: Option<u64>,
    /// The steps at which the process may be told to die; without any it never is.
    pub(super) steps: Vec<&'static str>,
    /// The visit to a step at which the process dies at the latest.
    pub(super) visits: u32,
    /// Decides the step and the visit of each death.
    pub(super) dice: StdRng,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Kill,
    Terminate,
    Freeze(Duration),
    Stop,
}

/// A process that is kept running.
#[derive(Debug)]
pub(super) struct Process {
    /// The subcommand.
    pub(super) role: &'static str,
    wishes: mpsc::UnboundedSender<Wish>,
    supervisor: JoinHandle<Start>,
}

impl Process {
    /// Starts the process, and keeps it running until [`Process::stop`].
    pub(super) fn start(start: Start, toll: Toll) -> Self {
        let (wishes, heard) = mpsc::unbounded_channel();
        Self { role: start.role, wishes, supervisor: tokio::spawn(supervise(start, toll, heard)) }
    }

    /// Ends the process with `kill -9`; it is started again.
    pub(super) fn kill(&self) {
        self.wishes.send(Wish::Kill).ok();
    }

    /// Sends SIGTERM; the process is started again once it has stopped.
    pub(super) fn terminate(&self) {
        self.wishes.send(Wish::Terminate).ok();
    }

    /// Freezes the process for `time`: it keeps its connections and does nothing.
    pub(super) fn freeze(&self, time: Duration) {
        self.wishes.send(Wish::Freeze(time)).ok();
    }

    /// Stops the process for good, and returns its parameters once it has stopped.
    pub(super) async fn stop(self) -> Start {
        self.wishes.send(Wish::Stop).ok();
        self.supervisor.await.expect("the supervisor ends well")
    }
}

async fn supervise(mut start: Start, toll: Toll, mut wishes: mpsc::UnboundedReceiver<Wish>) -> Start {
    loop {
        let mut child = spawn(&mut start);
        let pid = child.id().expect("it has just been started");
        let wish = loop {
            tokio::select! {
                status = child.wait() => {
                    note_death(&toll, start.role, status.expect("it can be waited for"));
                    break None;
                }
                wish = wishes.recv() => match wish.unwrap_or(Wish::Stop) {
                    Wish::Freeze(time) => freeze(&toll, pid, time).await,
                    wish => break Some(wish),
                },
                () = tokio::time::sleep(WEIGHED_EVERY) => toll.weigh(start.role, pid),
            }
        };
        toll.weigh(start.role, pid);
        match wish {
            None | Some(Wish::Freeze(_)) => {}
            Some(Wish::Kill) => {
                child.kill().await.expect("it can be killed");
                toll.strike(|counts| counts.kills += 1);
            }
            Some(wish @ (Wish::Terminate | Wish::Stop)) => {
                if wish == Wish::Terminate {
                    toll.strike(|counts| counts.terminations += 1);
                }
                ask_to_stop(&toll, start.role, &mut child, pid).await;
                if wish == Wish::Stop {
                    return start;
                }
            }
        }
    }
}

fn spawn(start: &mut Start) -> Child {
    let mut orders = start.orders.clone();
    if let Some(step) = start.steps.choose(&mut start.dice) {
        let visit = start.dice.random_range(1..=start.visits.max(1));
        orders = format!("{orders},kill={step}:{visit}");
    }
    let log = std::fs::OpenOptions::new().create(true).append(true).open(start.directory.join("log"));
    program(start.longest_file_kib)
        .arg(start.role)
        .args(["--failpoints", &orders, "--log"])
        .arg(environment("CHAOS_LOG").unwrap_or_else(|| "warn".to_owned()))
        .current_dir(&start.directory)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("the log can be opened"))
        .kill_on_drop(true)
        .spawn()
        .expect("it starts")
}

/// The binary, behind a shell that sets its file size limit, if it has one. A write beyond the limit then fails. The
/// log has no limit.
fn program(longest_file_kib: Option<u64>) -> Command {
    let Some(kib) = longest_file_kib else { return Command::new(binary::path()) };
    let mut shell = Command::new("bash");
    let limit = format!("exec 2> >(exec cat >&2); trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"");
    shell.arg("-c").arg(limit).arg(binary::path());
    shell
}

fn note_death(toll: &Toll, role: &'static str, status: ExitStatus) {
    toll.strike(|counts| match status.signal() {
        Some(SIGABRT) => counts.step_kills += 1,
        _ => counts.misconduct.push(format!("{role} ended by itself: {status}")),
    });
}

async fn freeze(toll: &Toll, pid: u32, time: Duration) {
    signal(pid, "-STOP").await;
    tokio::time::sleep(time).await;
    signal(pid, "-CONT").await;
    toll.strike(|_| ());
}

/// The `kill` command sends the signal, because the standard library can send only SIGKILL.
async fn signal(pid: u32, which: &str) {
    let sent = Command::new("kill").args([which, &pid.to_string()]).stderr(Stdio::null()).status().await;
    assert!(sent.is_ok(), "kill is not installed");
}

async fn ask_to_stop(toll: &Toll, role: &'static str, child: &mut Child, pid: u32) {
    signal(pid, "-TERM").await;
    match timeout(STOP_DEADLINE, child.wait()).await {
        Ok(status) => {
            let status = status.expect("it can be waited for");
            // The process may have reached its step before it stopped.
            if status.signal() == Some(SIGABRT) {
                note_death(toll, role, status);
            } else if status.code() != Some(0) {
                // A process that does not listen to signals yet is ended by the SIGTERM itself.
                let early = status.signal() == Some(15);
                if !early {
                    toll.counts().misconduct.push(format!("{role} stopped badly: {status}"));
                }
            }
        }
        Err(_) => {
            toll.counts().misconduct.push(format!("{role} did not stop in {STOP_DEADLINE:?}"));
            child.kill().await.expect("it can be killed");
        }
    }
}
