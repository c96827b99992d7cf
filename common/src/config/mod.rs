//! The configuration: one TOML file, each key also an environment variable, read once at start. Every problem is
//! reported at once, with its key, its value (secrets masked) and how to mend it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::integration::Integrations;

/// The whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Embedded files and the ingress spool live here.
    pub data_dir: PathBuf,
    /// The queues.
    pub broker: BrokerConfig,
    /// Sessions and ledgers.
    pub store: StoreConfig,
    /// The front door.
    pub ingress: IngressConfig,
    /// Turns.
    pub worker: WorkerConfig,
    /// Sends.
    pub sender: SenderConfig,
    /// Health and metrics.
    pub operations: OperationsConfig,
    /// How long work in flight may go on after a signal to stop.
    pub shutdown_grace: Duration,
    /// Who answers which numbers.
    pub integrations: Integrations,
}

/// Where the queues are.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// The adapter and its address.
    pub url: BrokerUrl,
    /// All names start with it.
    pub prefix: String,
    /// How many partitions each ordered stage has, 1 to 1024.
    pub partitions: u16,
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

/// The front door.
#[derive(Debug, Clone)]
pub struct IngressConfig {
    /// Where webhooks arrive.
    pub listen: SocketAddr,
    /// What the provider sees and signs, without a trailing slash. Required by the ingress role and `up`.
    pub public_url: Option<String>,
}

/// Turns.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// How many turns at a time, at least 1.
    pub concurrency: usize,
}

/// Sends.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// How many provider calls at a time, at least 1.
    pub concurrency: usize,
}

/// Health and metrics.
#[derive(Debug, Clone)]
pub struct OperationsConfig {
    /// Where health checks and scrapers ask: keep it private.
    pub listen: SocketAddr,
}
