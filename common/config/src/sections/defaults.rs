//! The defaults, which apply where nothing is configured.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use integration::{Integration, Integrations};

use crate::{
    BrokerConfig, BrokerUrl, Config, IngressConfig, OperationsConfig, SenderConfig, StoreConfig, StoreUrl, WorkerConfig,
};

impl Config {
    /// Everything embedded in `data_dir`, with the documented defaults: for tests and demonstrations.
    #[must_use]
    pub fn embedded(data_dir: PathBuf, integrations: Vec<Integration>) -> Self {
        Self { data_dir, integrations: integrations.into_iter().collect(), ..Self::default() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./data"),
            broker: BrokerConfig::default(),
            store: StoreConfig::default(),
            ingress: IngressConfig::default(),
            worker: WorkerConfig::default(),
            sender: SenderConfig::default(),
            operations: OperationsConfig::default(),
            shutdown_grace: Duration::from_secs(25),
            integrations: Integrations::default(),
            remarks: Vec::new(),
        }
    }
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self { url: BrokerUrl::Embedded, prefix: "switchboard".to_owned(), partitions: None, max_length: 1_000_000 }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { url: StoreUrl::Embedded, prefix: "switchboard".to_owned() }
    }
}

impl Default for IngressConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            public_urls: Vec::new(),
            spool_limit_bytes: 1 << 30,
        }
    }
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self { concurrency: 256 }
    }
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self { concurrency: 64 }
    }
}

impl Default for OperationsConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)), dead_after: Duration::from_secs(600) }
    }
}
