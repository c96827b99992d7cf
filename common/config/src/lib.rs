//! The configuration: one TOML file, each key also an environment variable, read once at start. Every problem is
//! reported at once, with its key, its value (secrets masked) and how to mend it; what is legal but suspicious is a
//! remark.

mod reader;
mod sections;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use integration::Integrations;
use secrecy::SecretString;

pub use reader::Clients;
pub use reader::duration::parse as parse_duration;
pub use reader::environment::environment;
pub use reader::problem::{Problem, Problems};
pub use reader::remark::Remark;
pub use sections::{QueueConfig, report};

use reader::{Context, Section};

/// The whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory of the embedded queues and store.
    pub data_dir: PathBuf,
    /// The broker, which holds the queues.
    pub broker: BrokerConfig,
    /// The store, which holds sessions and ledgers.
    pub store: StoreConfig,
    /// Ingress, the HTTP front door.
    pub ingress: IngressConfig,
    /// The worker, which takes turns.
    pub worker: WorkerConfig,
    /// The sender, which sends parts.
    pub sender: SenderConfig,
    /// The endpoint for health and metrics.
    pub operations: OperationsConfig,
    /// How long work in flight may go on after a signal to stop.
    pub shutdown_grace: Duration,
    /// The integrations: which assistant answers which numbers.
    pub integrations: Integrations,
    /// Remarks on settings that are legal but suspicious, or have no effect.
    pub remarks: Vec<Remark>,
}

impl Config {
    /// Reads the file at `path`, else the one that `SWITCHBOARD_CONFIG` names, else `./switchboard.toml`, which may be
    /// absent; then `environment`, which wins. `clients` judge the servers' addresses.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(
        path: Option<&Path>,
        environment: &BTreeMap<String, String>,
        clients: Clients,
    ) -> Result<Self, Problems> {
        Self::from_toml(&reader::file::text(path, environment)?, environment, clients)
    }

    /// Reads `text`, then `environment`, which wins. `clients` judge the servers' addresses.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn from_toml(text: &str, environment: &BTreeMap<String, String>, clients: Clients) -> Result<Self, Problems> {
        read(text, environment, clients).0
    }

    /// Returns this configuration if it suffices for ingress too: other roles need no `ingress.public_url`.
    ///
    /// # Errors
    /// When `ingress.public_url` is missing.
    pub fn for_ingress(self) -> Result<Self, Problems> {
        if !self.ingress.public_urls.is_empty() {
            return Ok(self);
        }
        Err(Problems::from(Problem {
            key: "ingress.public_url".to_owned(),
            integration: None,
            variable: None,
            found: "is missing, and without it no signature of Twilio's can be checked".to_owned(),
            expected: reader::address::PUBLIC.to_owned(),
            mend: "add `public_url` under [ingress]".to_owned(),
        }))
    }
}

/// The configuration, and every key that was looked for.
fn read(
    text: &str,
    environment: &BTreeMap<String, String>,
    clients: Clients,
) -> (Result<Config, Problems>, BTreeSet<String>) {
    match walk(text, environment, clients) {
        Ok(Walked { config, problems, known }) => (Problems::none_in(problems).map(|()| config), known),
        // After a syntax error, other problems cannot be told from what the parser missed.
        Err(problems) => (Err(problems), BTreeSet::new()),
    }
}

/// The result of reading everything: where something is wrong, `config` has the default.
struct Walked {
    config: Config,
    problems: Vec<Problem>,
    known: BTreeSet<String>,
}

fn walk(text: &str, environment: &BTreeMap<String, String>, clients: Clients) -> Result<Walked, Problems> {
    let mut table = reader::file::table(text)?;
    let overlay = reader::environment::overlay(&mut table, environment);
    let context = Context {
        environment,
        clients,
        variables: overlay.variables,
        problems: RefCell::new(overlay.problems),
        remarks: RefCell::default(),
        known: RefCell::default(),
    };
    let config = sections::config(Section::root(&context, table));
    let Context { problems, remarks, known, .. } = context;
    let config = Config { remarks: remarks.into_inner(), ..config };
    Ok(Walked { config, problems: problems.into_inner(), known: known.into_inner() })
}

/// Where the queues are.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// The adapter and its address.
    pub url: BrokerUrl,
    /// All names start with it.
    pub prefix: String,
    /// How many partitions each ordered stage has, 1 to 1024; `None` for the number that the broker already has, or
    /// else [`broker::DEFAULT_PARTITIONS`].
    pub partitions: Option<u16>,
    /// How many messages a queue takes before its publishers must wait, 1 to 2,000,000,000. The limit holds for each
    /// partition on RabbitMQ, for each whole stage on the embedded broker.
    pub max_length: u32,
}

/// Which broker.
#[derive(Debug, Clone)]
pub enum BrokerUrl {
    /// The SQLite file in `data_dir`.
    Embedded,
    /// RabbitMQ: the nodes of one cluster, tried in turn. The URLs hold passwords.
    Amqp(Vec<SecretString>),
}

/// Where sessions and ledgers are.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The adapter and its address.
    pub url: StoreUrl,
    /// All keys start with it.
    pub prefix: String,
}

/// Which store.
#[derive(Debug, Clone)]
pub enum StoreUrl {
    /// The SQLite file in `data_dir`.
    Embedded,
    /// Redis. The URL may hold a password.
    Redis(SecretString),
}

/// The settings of ingress.
#[derive(Debug, Clone)]
pub struct IngressConfig {
    /// Where webhooks arrive.
    pub listen: SocketAddr,
    /// The URLs that the provider calls and signs, without a trailing slash. A signature over any of them is accepted;
    /// the first is the one that providers are told. The ingress role and `up` require at least one.
    pub public_urls: Vec<String>,
    /// How many bytes of messages may wait on disk while the broker cannot take them; 0 for none.
    pub spool_limit_bytes: u64,
}

impl IngressConfig {
    /// The URL that providers are told.
    #[must_use]
    pub fn public_url(&self) -> Option<&str> {
        self.public_urls.first().map(String::as_str)
    }
}

/// The settings of the worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// How many turns at a time, at least 1.
    pub concurrency: usize,
}

/// The settings of the sender.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// How many provider calls at a time, at least 1.
    pub concurrency: usize,
}

/// The settings of the endpoint for health and metrics.
#[derive(Debug, Clone)]
pub struct OperationsConfig {
    /// Where health checks and scrapers ask: keep it private.
    pub listen: SocketAddr,
    /// `/health/live` fails once a stage has been stuck for this long.
    pub dead_after: Duration,
}
