//! Real processes of the release binary, with a configuration of their own.

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

/// The longest wait until a role is ready. On an empty RabbitMQ the first role declares some hundred queues.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// The longest wait until a role has stopped; longer than its `shutdown_grace`.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// The time between two readiness checks of a process that starts.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The backend that holds the queues and records.
#[derive(Debug, Clone)]
pub(crate) enum Backend {
    /// RabbitMQ and Redis. All names begin with `prefix`.
    Servers { amqp_url: String, redis_url: String, prefix: String },
    /// A SQLite file in the installation's directory.
    Embedded,
}

/// An installation: a directory with `switchboard.toml`, and addresses.
#[derive(Debug)]
pub(crate) struct Installation {
    binary: PathBuf,
    directory: TempDir,
    /// The URL at which webhooks arrive and which is signed: `http://` and an address.
    pub(crate) public_url: String,
    /// The address for the provider's stand-in.
    pub(crate) provider: SocketAddr,
}

impl Installation {
    /// Writes the configuration: the defaults, except where a bench needs another value.
    ///
    /// # Errors
    /// When the disk has no room.
    pub(crate) fn new(binary: &Path, backend: &Backend) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let (listen, provider) = (free_address(), free_address());
        fs::write(directory.path().join("switchboard.toml"), configuration(backend, listen, provider))?;
        fs::write(directory.path().join("dialogue.toml"), DIALOGUE)?;
        let public_url = format!("http://{listen}");
        Ok(Self { binary: binary.to_owned(), directory, public_url, provider })
    }

    /// The address at which webhooks arrive.
    ///
    /// # Errors
    /// Never: the URL is made from an address.
    pub(crate) fn target(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.public_url.trim_start_matches("http://").parse()?)
    }

    /// Replaces `from` by `to` in the configuration. It takes effect for roles that are started later.
    ///
    /// # Errors
    /// When the configuration does not contain `from`.
    pub(crate) fn change(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let path = self.directory.path().join("switchboard.toml");
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(from), "no {from:?} stands in the configuration");
        fs::write(path, text.replace(from, to))?;
        Ok(())
    }

    /// Declares the queues, as the first role that starts does.
    ///
    /// # Errors
    /// As [`Installation::start`].
    pub(crate) async fn declare(&self) -> anyhow::Result<()> {
        self.start("worker").await?.stop().await
    }

    /// Starts the subcommand `role` and returns once it is ready.
    ///
    /// # Errors
    /// When the process ends or is not ready in time. The error contains its log.
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

/// Whether the process is ready and has its broker. The status alone is not enough: ingress is also ready with only its
/// spool.
async fn is_ready(operations: SocketAddr) -> bool {
    let asked = connection::get(operations, "/health/ready").await;
    asked.is_ok_and(|(status, said)| {
        status == 200 && said.pointer("/checks/broker").and_then(Value::as_str) == Some("ok")
    })
}

/// Part of ingress's log line about a text that its broker did not take. A measurement with such a line is invalid.
const SPOOLED: &str = "it goes to the spool";

/// A running process.
#[derive(Debug)]
pub(crate) struct Role {
    /// The subcommand.
    pub(crate) name: &'static str,
    child: Child,
    pid: u32,
    log: PathBuf,
    /// The time from the start until the process was ready.
    pub(crate) ready_after: Duration,
}

impl Role {
    /// CPU seconds of the process so far.
    ///
    /// # Errors
    /// When the process has ended.
    pub(crate) fn cpu_s(&self) -> anyhow::Result<f64> {
        usage::cpu_s(self.pid).with_context(|| format!("{} has ended", self.name))
    }

    /// The resident memory of the process, in MiB.
    ///
    /// # Errors
    /// When the process has ended.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        usage::resident_mib(self.pid).with_context(|| format!("{} has ended", self.name))
    }

    /// Stops the process with SIGTERM and returns once it has stopped.
    ///
    /// # Errors
    /// When the process does not stop or exits with a failure, or texts had gone to the spool.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let (name, log) = (self.name, self.log.clone());
        self.end().await?;
        let told = fs::read_to_string(log)?;
        ensure!(!told.contains(SPOOLED), "RabbitMQ was too slow for {name}: texts went to the spool\n{told}");
        Ok(())
    }

    /// The same, for a process that may have used the spool.
    ///
    /// # Errors
    /// When the process does not stop or exits with a failure.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        let asked = Command::new("kill").args(["-TERM", &self.pid.to_string()]).status().await?;
        ensure!(asked.success(), "{} has ended by itself", self.name);
        let status = tokio::time::timeout(STOP_DEADLINE, self.child.wait()).await;
        let status = status.with_context(|| format!("{} does not stop", self.name))??;
        ensure!(status.success(), "{} stopped badly: {status}", self.name);
        Ok(())
    }
}

/// An address of the loopback interface with a port that is not in use.
fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// A dialogue that gives one short answer to every text.
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
