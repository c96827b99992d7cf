//! Opens the ports that a configuration names.

#[cfg(feature = "failpoints")]
mod broken_broker;
#[cfg(feature = "failpoints")]
mod broken_store;

use std::sync::Arc;
use std::time::Duration;

use broker::dead_letters::DeadLetters;
use broker::rabbitmq::RabbitMq;
use broker::{Broker, Topology};
use config::{BrokerConfig, BrokerUrl, Clients, Config, QueueConfig, StoreUrl};
use embedded::EmbeddedBroker;
use embedded::{Database, EmbeddedStore};
use message::clock::Clock;
use message::failure::Failure;
use secrecy::SecretString;
use store::Store;
use store::redis::RedisStore;
use work::{Ports, Rhythm, StageProgress};

/// The URL checks of the adapters' clients, for [`Config::load`].
pub const CLIENTS: Clients = Clients { amqp: RabbitMq::is_url, redis: RedisStore::is_url };

/// Opens the adapters that `config` names. A server that is away is no error: its clients wait for it while in use.
///
/// # Errors
/// When the embedded file cannot be opened or another process has it.
pub fn open(config: &Config, clock: Clock) -> Result<Ports, Failure> {
    let is_embedded = is_embedded_broker(config) || matches!(config.store.url, StoreUrl::Embedded);
    let database = if is_embedded { Some(Database::open(&config.data_dir)?) } else { None };
    let broker: Arc<dyn Broker> = match (&config.broker.url, &database) {
        (BrokerUrl::Amqp(urls), _) => Arc::new(rabbitmq(urls, &config.broker, clock.clone())),
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
    #[cfg(feature = "failpoints")]
    let (broker, store) = (broken_broker::broker(broker), broken_store::store(store));
    // One process at a time has an embedded file, so no older release runs beside it.
    let first_after = if is_embedded_broker(config) { Duration::ZERO } else { Rhythm::UPGRADE };
    let heartbeats = Some(Rhythm { every: Rhythm::EVERY, first_after });
    Ok(Ports { broker, store, clock, progress: StageProgress::default(), heartbeats })
}

/// The dead letters of the queues that `config` names, for an operator's command. On the embedded backend it works
/// beside a running process.
///
/// # Errors
/// When there is no embedded file, or it cannot be opened.
pub fn dead_letters(config: &QueueConfig, clock: Clock) -> Result<Arc<dyn DeadLetters>, Failure> {
    Ok(match &config.broker.url {
        BrokerUrl::Amqp(urls) => Arc::new(rabbitmq(urls, &config.broker, clock)),
        BrokerUrl::Embedded => {
            let database = Database::open_beside(&config.data_dir)?;
            Arc::new(EmbeddedBroker::new(database, clock).with_max_length(config.broker.max_length))
        }
    })
}

fn is_embedded_broker(config: &Config) -> bool {
    matches!(config.broker.url, BrokerUrl::Embedded)
}

fn rabbitmq(urls: &[SecretString], config: &BrokerConfig, clock: Clock) -> RabbitMq {
    let topology = match config.partitions {
        Some(partitions) => Topology::new(&config.prefix, partitions),
        None => Topology::with_default_partitions(&config.prefix),
    };
    let topology = topology.with_max_length(config.max_length);
    RabbitMq::with_clock(urls.to_vec(), topology, clock)
}
