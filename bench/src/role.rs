//! The release binary's real processes, with a configuration of their own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tests::servers::free_port;
use tokio::process::{Child, Command};

use crate::load::connection;
use crate::load::webhook::{ACCOUNT_SID, AUTH_TOKEN, INTEGRATION};
use crate::usage;

/// The first role that meets an empty RabbitMQ declares some hundred queues.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// Longer than `shutdown_grace`.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// How often a process that starts is asked whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Where queues and records are.
#[derive(Debug, Clone)]
pub(crate) enum Backend {
    /// RabbitMQ and Redis, all names beginning with `prefix`.
    Servers { amqp_url: String, redis_url: String, prefix: String },
    /// A SQLite file in the installation's directory.
    Embedded,
}

/// An installation: a directory with `switchboard.toml`, and addresses.
#[derive(Debug)]
pub(crate) struct Installation {
    binary: PathBuf,
    directory: TempDir,
    /// Where webhooks arrive, and what is signed: `http://` and an address.
    pub(crate) public_url: String,
    /// Where the stand-in of the provider is to listen.
    pub(crate) provider: SocketAddr,
}

impl Installation {
    /// Writes its configuration: defaults, but for what a bench needs otherwise.
    ///
    /// # Errors
    /// When there is no room on disk.
    pub(crate) fn new(binary: &Path, backend: &Backend) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let (listen, provider) = (free_address(), free_address());
        fs::write(directory.path().join("switchboard.toml"), configuration(backend, listen, provider))?;
        fs::write(directory.path().join("dialogue.toml"), DIALOGUE)?;
        let public_url = format!("http://{listen}");
        Ok(Self { binary: binary.to_owned(), directory, public_url, provider })
    }

    /// Where webhooks arrive.
    ///
    /// # Errors
    /// Never: the URL was made of an address.
    pub(crate) fn target(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.public_url.trim_start_matches("http://").parse()?)
    }

    /// Writes `to` instead of `from` in its configuration, for whatever is started from then on.
    ///
    /// # Errors
    /// When `from` does not stand there.
    pub(crate) fn change(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let path = self.directory.path().join("switchboard.toml");
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(from), "no {from:?} stands in the configuration");
        fs::write(path, text.replace(from, to))?;
        Ok(())
    }

    /// Makes its queues, as the first role that starts does.
    ///
    /// # Errors
    /// As [`Installation::start`].
    pub(crate) async fn declare(&self) -> anyhow::Result<()> {
        self.start("worker").await?.stop().await
    }

    /// Starts the subcommand `role`, and returns once it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready in time; its log is in the error.
    pub(crate) async fn start(&self, role: &'static str) -> anyhow::Result<Role> {
        let began = Instant::now();
        let operations = free_address();
        let log = self.directory.path().join(format!("{role}.log"));
        let child = Command::new(&self.binary)
            .arg(role)
            .current_dir(self.directory.path())
            .env_clear()
            .env("SWITCHBOARD__OPERATIONS__LISTEN", operations.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started: build it first", self.binary.display()))?;
        let pid = child.id().context("it has just been started")?;
        let mut role = Role { name: role, child, pid, log, ready_after: Duration::ZERO };
        while !is_ready(operations).await {
            let ended = role.child.try_wait()?;
            if ended.is_some() || began.elapsed() > READY_DEADLINE {
                bail!("{} is not ready: {}", role.name, fs::read_to_string(&role.log).unwrap_or_default());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        role.ready_after = began.elapsed();
        Ok(role)
    }
}

/// Whether the process is ready, and its broker too: ingress would also be with its spool alone.
async fn is_ready(operations: SocketAddr) -> bool {
    let asked = connection::get(operations, "/health/ready").await;
    asked.is_ok_and(|(status, said)| {
        status == 200 && said.pointer("/checks/broker").and_then(Value::as_str) == Some("ok")
    })
}

/// What ingress logs when its broker did not take a text: what was measured then is not what was meant.
const SPOOLED: &str = "it goes to the spool";

/// A running process.
#[derive(Debug)]
pub(crate) struct Role {
    /// Its subcommand.
    pub(crate) name: &'static str,
    child: Child,
    pid: u32,
    log: PathBuf,
    /// How long it took from its start until it was ready.
    pub(crate) ready_after: Duration,
}

impl Role {
    /// CPU seconds that it used so far.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn cpu_s(&self) -> anyhow::Result<f64> {
        usage::cpu_s(self.pid).with_context(|| format!("{} has ended", self.name))
    }

    /// Its resident memory, in MiB.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        usage::resident_mib(self.pid).with_context(|| format!("{} has ended", self.name))
    }

    /// Asks it to stop, and returns once it has.
    ///
    /// # Errors
    /// When it does not stop, or badly, or texts had gone to the spool.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let (name, log) = (self.name, self.log.clone());
        self.end().await?;
        let told = fs::read_to_string(log)?;
        ensure!(!told.contains(SPOOLED), "RabbitMQ was too slow for {name}: texts went to the spool\n{told}");
        Ok(())
    }

    /// The same where the spool may have been used.
    ///
    /// # Errors
    /// When it does not stop, or badly.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        let asked = Command::new("kill").args(["-TERM", &self.pid.to_string()]).status().await?;
        ensure!(asked.success(), "{} has ended by itself", self.name);
        let status = tokio::time::timeout(STOP_DEADLINE, self.child.wait()).await;
        let status = status.with_context(|| format!("{} does not stop", self.name))??;
        ensure!(status.success(), "{} stopped badly: {status}", self.name);
        Ok(())
    }
}

/// An address of the loopback interface on which nobody listens yet.
fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// One short answer to whatever is said.
const DIALOGUE: &str = r#"
start = "answer"
fallback = "answer"
[[nodes]]
id = "answer"
text = "Thank you. Our branches are open Monday to Friday from 9 am to 5 pm, and on Saturdays from 9 am to noon."
"#;

fn configuration(backend: &Backend, listen: SocketAddr, provider: SocketAddr) -> String {
    let (broker, store, prefix) = match backend {
        Backend::Servers { amqp_url, redis_url, prefix } => (amqp_url.as_str(), redis_url.as_str(), prefix.as_str()),
        Backend::Embedded => ("embedded", "embedded", "bench"),
    };
    format!(
        r#"
[broker]
url = "{broker}"
prefix = "{prefix}"
[store]
url = "{store}"
prefix = "{prefix}"
[ingress]
listen = "{listen}"
public_url = "http://{listen}"
[[integrations]]
id = "{INTEGRATION}"
provider = "twilio"
[integrations.twilio]
account_sid = "{ACCOUNT_SID}"
auth_token = "{AUTH_TOKEN}"
base_url = "http://{provider}"
[integrations.assistant]
kind = "scripted"
file = "dialogue.toml"
[integrations.options]
rate_per_second = 1000
"#
    )
}
