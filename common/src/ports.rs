//! The ports a service is given, opened once from the configuration.

use std::sync::Arc;

use crate::broker::embedded::EmbeddedBroker;
use crate::broker::rabbitmq::RabbitMq;
use crate::broker::{Broker, Progress, Stage, Topology};
use crate::clock::Clock;
use crate::config::{BrokerUrl, Config, StoreUrl};
use crate::failure::Failure;
use crate::store::Store;
use crate::store::embedded::{Database, EmbeddedStore};
use crate::store::redis::RedisStore;

/// What the services share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ports {
    /// The queues.
    pub broker: Arc<dyn Broker>,
    /// Sessions and ledgers.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Clock,
    /// How far each stage that runs in this process got.
    pub progress: StageProgress,
}

/// One [`Progress`] for each stage. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StageProgress {
    inbound: Arc<Progress>,
    outbound: Arc<Progress>,
    receipts: Arc<Progress>,
}

impl StageProgress {
    /// The progress of `stage`.
    #[must_use]
    pub fn of(&self, stage: Stage) -> Arc<Progress> {
        Arc::clone(match stage {
            Stage::Inbound => &self.inbound,
            Stage::Outbound => &self.outbound,
            Stage::Receipts => &self.receipts,
        })
    }
}

impl Ports {
    /// Opens the adapters that `config` names. Servers that are away are no error: they are waited for while in use.
    ///
    /// # Errors
    /// When the embedded file cannot be opened or another process has it.
    pub fn open(config: &Config, clock: Clock) -> Result<Self, Failure> {
        let is_embedded =
            matches!(config.broker.url, BrokerUrl::Embedded) || matches!(config.store.url, StoreUrl::Embedded);
        let database = if is_embedded { Some(Database::open(&config.data_dir)?) } else { None };
        let broker: Arc<dyn Broker> = match (&config.broker.url, &database) {
            (BrokerUrl::Amqp(urls), _) => {
                let topology = Topology::new(&config.broker.prefix, config.broker.partitions)
                    .with_max_length(config.broker.max_length);
                Arc::new(RabbitMq::new(urls.clone(), topology))
            }
            (BrokerUrl::Embedded, Some(database)) => {
                Arc::new(EmbeddedBroker::new(database.clone(), clock.clone()).with_max_length(config.broker.max_length))
            }
            (BrokerUrl::Embedded, None) => return Err(Failure::misconfigured("the embedded broker has no file")),
        };
        let store: Arc<dyn Store> = match (&config.store.url, database) {
            (StoreUrl::Redis(url), _) => Arc::new(RedisStore::new(url, &config.store.prefix)?),
            (StoreUrl::Embedded, Some(database)) => Arc::new(EmbeddedStore::new(database, clock.clone())),
            (StoreUrl::Embedded, None) => return Err(Failure::misconfigured("the embedded store has no file")),
        };
        Ok(Self { broker, store, clock, progress: StageProgress::default() })
    }
}
