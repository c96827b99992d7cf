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

/// Longer than a process may take to stop: its `shutdown_grace`, and a busy machine.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// How often its memory is looked at.
const WEIGHED_EVERY: Duration = Duration::from_millis(500);
const SIGABRT: i32 = 6;

/// How a process is started.
#[derive(Debug)]
pub(super) struct Start {
    /// The subcommand.
    pub(super) role: &'static str,
    /// The directory with `switchboard.toml`, where the log goes too.
    pub(super) directory: PathBuf,
    /// Failpoint orders that stand at every start.
    pub(super) orders: String,
    /// The most KiB that any file it writes may have.
    pub(super) longest_file_kib: Option<u64>,
    /// The steps at which it may be told to die; none for never.
    pub(super) steps: Vec<&'static str>,
    /// It dies at most at the so manieth visit.
    pub(super) visits: u32,
    /// Decides where it dies.
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
    /// Starts it, and keeps it running until [`Process::stop`].
    pub(super) fn start(start: Start, toll: Toll) -> Self {
        let (wishes, heard) = mpsc::unbounded_channel();
        Self { role: start.role, wishes, supervisor: tokio::spawn(supervise(start, toll, heard)) }
    }

    /// Ends it with `kill -9`; it is started again.
    pub(super) fn kill(&self) {
        self.wishes.send(Wish::Kill).ok();
    }

    /// Asks it to stop; it is started again once it has.
    pub(super) fn terminate(&self) {
        self.wishes.send(Wish::Terminate).ok();
    }

    /// Freezes it for `time`: it keeps its connections and does nothing.
    pub(super) fn freeze(&self, time: Duration) {
        self.wishes.send(Wish::Freeze(time)).ok();
    }

    /// Asks it to stop for good, waits until it has, and returns how it may be started again.
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

/// The binary, behind a shell that sets its limit, if it has one: a write beyond it then fails. The log has no limit.
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

/// The standard library only knows how to kill.
async fn signal(pid: u32, which: &str) {
    let sent = Command::new("kill").args([which, &pid.to_string()]).stderr(Stdio::null()).status().await;
    assert!(sent.is_ok(), "kill is not installed");
}

async fn ask_to_stop(toll: &Toll, role: &'static str, child: &mut Child, pid: u32) {
    signal(pid, "-TERM").await;
    match timeout(STOP_DEADLINE, child.wait()).await {
        Ok(status) => {
            let status = status.expect("it can be waited for");
            // It may have come to its step on the way.
            if status.signal() == Some(SIGABRT) {
                note_death(toll, role, status);
            } else if status.code() != Some(0) {
                // A process asked before it listens to signals ends by SIGTERM itself.
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
