//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use operations::logs::{self, LogFormat};

use crate::dead_letters::DeadLetters;

/// Lets people text with an assistant.
#[derive(Debug, Parser)]
#[command(name = "switchboard", version, about, propagate_version = true)]
pub(crate) struct Args {
    /// What to do; without one, `demo`
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Which log lines to write, as in `info` or `warn,broker=debug`
    #[arg(long, global = true, env = "SWITCHBOARD_LOG", value_name = "FILTER", value_parser = log_filter)]
    pub(crate) log: Option<String>,
    /// How log lines look
    #[arg(long, global = true, env = "SWITCHBOARD_LOG_FORMAT", value_enum, default_value_t)]
    pub(crate) log_format: Format,
    /// What the fault suite wants to go wrong
    #[cfg(feature = "failpoints")]
    #[arg(long, global = true, hide = true, default_value = "")]
    pub(crate) failpoints: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything in one process with a simulated provider and a scripted assistant: text with it, no account needed
    Demo(Demo),
    /// All roles in one process, with real providers
    Up(ConfigFile),
    /// The HTTP front door that takes webhooks
    Ingress(ConfigFile),
    /// Turns: asks the assistant and queues its replies
    Worker(ConfigFile),
    /// Sends replies through the provider
    Sender(ConfigFile),
    /// The simulated provider, assistant and phone as a server
    Simulator(Simulator),
    /// Looks at messages that were set aside, sends them on their way again, or discards them
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Reports every problem of the configuration
    CheckConfig(ConfigFile),
    /// Asks a role whether it is ready; for container health checks
    #[command(hide = true)]
    Healthcheck(Healthcheck),
}

impl Command {
    /// The demo's own output is what a newcomer should see; a role's log is its output.
    pub(crate) fn default_log(&self) -> &'static str {
        match self {
            Self::Demo(_) => "warn",
            // Audit lines, which record what the operator did, are always logged, and so is the error that ends a
            // command.
            Self::DeadLetters(_) => "error,audit=info",
            Self::Up(_)
            | Self::Ingress(_)
            | Self::Worker(_)
            | Self::Sender(_)
            | Self::Simulator(_)
            | Self::CheckConfig(_)
            | Self::Healthcheck(_) => "info",
        }
    }
}

/// Where the configuration is.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigFile {
    /// The configuration file; without it the one that `SWITCHBOARD_CONFIG` names, else `./switchboard.toml`
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// What the demo takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Demo {
    /// Texts this, prints the conversation and exits; can be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) say: Vec<String>,
    /// Where the phone page is served; another port is taken if this one is in use
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// The demo's files live below this directory while it runs
    #[arg(long, value_name = "DIR", default_value = "./data")]
    pub(crate) data_dir: PathBuf,
}

impl Default for Demo {
    fn default() -> Self {
        Self { say: Vec::new(), listen: SocketAddr::from(([127, 0, 0, 1], 8080)), data_dir: PathBuf::from("./data") }
    }
}

/// What the simulator takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Simulator {
    /// Where the simulated services and the phone page are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub(crate) listen: SocketAddr,
    /// Where texts to the Twilio numbers are posted
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080/webhooks/demo/messages", value_parser = web_address)]
    pub(crate) webhook: String,
    /// Where texts to the IntelePeer numbers are posted
    #[arg(long, value_name = "URL", value_parser = web_address)]
    pub(crate) intelepeer_webhook: Option<String>,
}

/// What the health check takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Healthcheck {
    /// The URL that answers 200 when all is well
    #[arg(default_value = "http://127.0.0.1:9090/health/ready")]
    pub(crate) url: String,
}

fn log_filter(text: &str) -> Result<String, &'static str> {
    let is_filter = logs::is_filter(text);
    if is_filter { Ok(text.to_owned()) } else { Err("expected levels, as in `info` or `warn,broker=debug`") }
}

fn web_address(text: &str) -> Result<String, &'static str> {
    let is_web = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
    if is_web { Ok(text.to_owned()) } else { Err("expected a URL that starts with http:// or https://") }
}
