//! The installation of one scenario: its directory, its servers, its processes, and its simulator.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broker::Depths;
use config::Config;
use message::clock::Clock;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use simulator::{Answer, Receipt, Receipts, Simulator, SimulatorConfig};
use tempfile::TempDir;

use super::Backend;
use super::process::{Process, Start};
use super::servers::Servers;
use super::small_disk::SmallDisk;
use super::toll::Toll;
use crate::servers::free_port;

/// The text that goes out when the assistant is away.
pub(super) const FAILURE_MESSAGE: &str = "We cannot answer right now.";
/// The longest wait until the queues can be counted.
const COUNT_DEADLINE: Duration = Duration::from_secs(60);

/// The id of the integration.
pub(super) const INTEGRATION: &str = "chaos";

/// The number of partitions.
pub(super) const PARTITIONS: u16 = 8;

/// A role and the steps at which it dies.
pub(super) type Mortal = (&'static str, &'static [&'static str]);

/// The parameters of a site.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The backend that holds the queues and records.
    pub(super) backend: Backend,
    /// The part of Switchboard that is broken on purpose, if there is one.
    pub(super) sabotage: Option<&'static str>,
    /// The visit to a named step at which a process dies at the latest; `None` if processes do not die at steps.
    pub(super) step_visits: Option<u32>,
    /// The role that dies at these steps, and no other; `None` if all roles may die.
    pub(super) mortal: Option<Mortal>,
    /// The roles of its processes on servers.
    pub(super) roles: &'static [&'static str],
    /// Whether Redis has a replica that takes over.
    pub(super) is_replicated: bool,
    /// The seconds by which the clock of the second sender is ahead.
    pub(super) second_clock_s: i64,
    /// Whether the spool has very little room.
    pub(super) is_disk_small: bool,
    /// Whether RabbitMQ is a cluster of three.
    pub(super) is_clustered: bool,
    /// The number of texts that the simulator must keep.
    pub(super) texts: u64,
    /// The seed for which process dies at which step.
    pub(super) seed: u64,
}

/// The installation.
#[derive(Debug)]
pub(super) struct Site {
    /// The provider, the assistant, the phones and the judge's data.
    pub(super) simulator: Simulator,
    /// Our number.
    pub(super) number: String,
    /// The address and port of ingress.
    pub(super) ingress: String,
    /// The counts of faults and misconduct.
    pub(super) toll: Toll,
    /// RabbitMQ and Redis, if the site runs on them.
    pub(super) servers: Option<Arc<Servers>>,
    processes: Vec<Process>,
    plan: Plan,
    dice: StdRng,
    clock_offset_s: i64,
    disk: Option<SmallDisk>,
    directory: TempDir,
}

impl Site {
    /// Whether the spool is on a small disk.
    pub(super) fn has_small_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// Whether the small disk is full.
    pub(super) fn is_disk_full(&self) -> bool {
        self.disk.as_ref().is_some_and(SmallDisk::is_full)
    }

    /// Builds the site and starts its processes, without waiting until they are ready.
    pub(super) async fn open(plan: Plan) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let servers = match plan.backend {
            Backend::Embedded => None,
            Backend::Servers => {
                let start = move || Servers::start(plan.is_clustered, plan.is_replicated);
                Some(Arc::new(tokio::task::spawn_blocking(start).await.expect("it does not panic")))
            }
        };
        let keep = usize::try_from(plan.texts * 4).unwrap_or(usize::MAX).max(20_000);
        let receipts = Receipts { steps: vec![Receipt::Delivered], ..Receipts::default() };
        let config = SimulatorConfig { keep, receipts, fault_seed: plan.seed, ..SimulatorConfig::demo() };
        let number = config.twilio.numbers[0].number.clone();
        let simulator = Simulator::start(config).await.expect("the simulator starts");
        simulator.assistant().answer_with(|turn| Answer::text(turn.text.clone()));
        let ingress = format!("127.0.0.1:{}", free_port());
        let url = format!("http://{ingress}");
        simulator.set_webhook(&number, &format!("{url}/webhooks/{INTEGRATION}/messages"));
        let toml = configuration(directory.path(), &url, simulator.url(), servers.as_deref());
        std::fs::write(directory.path().join("switchboard.toml"), toml).expect("the configuration can be written");
        let dice = StdRng::seed_from_u64(plan.seed);
        let toll = Toll::default();
        let disk = plan.is_disk_small.then(|| SmallDisk::at(&directory.path().join("data/spool")));
        let (processes, clock_offset_s) = (Vec::new(), 0);
        let mut site =
            Self { simulator, number, ingress, toll, servers, processes, plan, dice, clock_offset_s, disk, directory };
        site.let_clock_jump(0);
        site.start();
        site
    }

    /// Starts all processes.
    pub(super) fn start(&mut self) {
        let roles: &[&str] = match self.plan.backend {
            Backend::Embedded => &["up"],
            Backend::Servers => self.plan.roles,
        };
        for role in roles {
            self.add(role);
        }
    }

    /// Stops all processes, and returns the depths of the queues.
    pub(super) async fn stop(&mut self) -> Depths {
        for process in std::mem::take(&mut self.processes) {
            drop(process.stop().await);
        }
        self.depths().await
    }

    /// The depths of the queues. An embedded file can be opened only while no process has it open.
    async fn depths(&self) -> Depths {
        let file = self.directory.path().join("switchboard.toml");
        let config = Config::load(Some(&file), &BTreeMap::new(), ports::CLIENTS).expect("the configuration is right");
        let counted = async {
            let ports = ports::open(&config, Clock::system()).expect("the ports open");
            loop {
                match ports.broker.depths().await {
                    Ok(depths) => return depths,
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        };
        tokio::time::timeout(COUNT_DEADLINE, counted).await.expect("the queues can be counted in time")
    }

    /// The process with the number `which`, modulo the number of processes.
    pub(super) fn pick(&self, which: usize) -> &Process {
        &self.processes[which % self.processes.len()]
    }

    /// Ends the processes of `role` with `kill -9`; they are started again.
    pub(super) fn kill_role(&self, role: &str) {
        self.processes.iter().filter(|process| process.role == role).for_each(Process::kill);
    }

    /// Starts or stops workers until there are `count`.
    pub(super) async fn have_workers(&mut self, count: usize) {
        loop {
            let workers: Vec<_> = (0..self.processes.len()).filter(|at| self.processes[*at].role == "worker").collect();
            match workers.len() {
                few if few < count => self.add("worker"),
                many if many > count => drop(self.processes.remove(workers[0]).stop().await),
                _ => return,
            }
        }
    }

    /// Moves the clocks of all our processes by `jump_s`, but never further from the true time than providers accept.
    pub(super) fn let_clock_jump(&mut self, jump_s: i64) {
        self.clock_offset_s = (self.clock_offset_s + jump_s).clamp(-60, 3000);
        for (number, ahead_s) in [0, self.plan.second_clock_s].into_iter().enumerate() {
            // The file is renamed into place, so that a process never reads half of it.
            let fresh = self.directory.path().join("clock.new");
            std::fs::write(&fresh, (self.clock_offset_s + ahead_s).to_string()).expect("a clock's file can be written");
            std::fs::rename(fresh, self.clock_file(number)).expect("a clock's file can be replaced");
        }
    }

    /// Keeps the directory with the logs and returns its path.
    pub(super) fn keep(self) -> PathBuf {
        self.directory.keep()
    }

    fn clock_file(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("clock{number}"))
    }

    fn add(&mut self, role: &'static str) {
        let is_second_sender = role == "sender" && self.processes.iter().any(|process| process.role == role);
        let mut orders = format!("clock={}", self.clock_file(usize::from(is_second_sender)).display());
        if let Some(sabotage) = self.plan.sabotage {
            orders = format!("{orders},break={sabotage}");
        }
        let start = Start {
            role,
            directory: self.directory.path().to_owned(),
            orders,
            longest_file_kib: self.disk.as_ref().and_then(SmallDisk::longest_file_kib).filter(|_| role == "ingress"),
            steps: match (self.plan.step_visits, self.plan.mortal) {
                (Some(_), None) => steps(role),
                (Some(_), Some((mortal, steps))) if mortal == role => steps.to_vec(),
                _ => Vec::new(),
            },
            visits: self.plan.step_visits.unwrap_or_default(),
            dice: StdRng::seed_from_u64(self.dice.random()),
        };
        self.processes.push(Process::start(start, self.toll.clone()));
    }
}

/// The steps that a role reaches.
fn steps(role: &str) -> Vec<&'static str> {
    match role {
        "ingress" => vec!["accepted"],
        "worker" => vec!["answered", "recorded", "settling", "published"],
        "sender" => vec!["sending", "sent", "settling"],
        _ => vec!["accepted", "answered", "recorded", "sending", "sent", "settling"],
    }
}

fn configuration(directory: &Path, ingress: &str, simulator: &str, servers: Option<&Servers>) -> String {
    let accounts = SimulatorConfig::demo();
    let broker = servers.map_or("\"embedded\"".to_owned(), |servers| format!("{:?}", servers.broker_urls()));
    let store = servers.map_or_else(|| "embedded".to_owned(), Servers::store_url);
    let listen = ingress.trim_start_matches("http://");
    let data = directory.join("data");
    let (account, assistant) = (accounts.twilio.account_sid, accounts.watsonx.assistant_id);
    let environment = accounts.watsonx.environment_id;
    format!(
        r#"
data_dir = "{data}"
shutdown_grace = "5s"
[broker]
url = {broker}
partitions = {PARTITIONS}
[store]
url = "{store}"
[ingress]
listen = "{listen}"
public_url = "{ingress}"
[operations]
listen = "127.0.0.1:0"
[sender]
concurrency = 256
[[integrations]]
id = "chaos"
provider = "twilio"
[integrations.twilio]
account_sid = "{account}"
auth_token = "simulated-twilio-token"
base_url = "{simulator}"
[integrations.assistant]
kind = "watsonx"
url = "{simulator}/instances/chaos"
assistant_id = "{assistant}"
environment_id = "{environment}"
timeout = "5s"
retry_interval = "200ms"
auth = {{ kind = "apikey", apikey = "simulated-watsonx-apikey" }}
[integrations.options]
failure_message = "{FAILURE_MESSAGE}"
rate_per_second = 1000
"#,
        data = data.display(),
    )
}
