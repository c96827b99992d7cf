//! RabbitMQ and Redis pass both conformance suites, every case with a prefix of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::broker::dead_letters::DeadLetters;
use common::broker::rabbitmq::RabbitMq;
use common::broker::{Broker, Topology};
use common::store::Store;
use common::store::redis::RedisStore;
use tests::conformance::DEADLINE;
use tests::conformance::broker::BrokerFixture;
use tests::conformance::dead_letters::DeadLettersFixture;
use tests::conformance::store::StoreFixture;
use tests::servers::{shared_amqp_url, shared_redis_url};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// Queues and records of one case.
struct Servers {
    prefix: String,
}

impl Servers {
    fn fresh() -> Self {
        Self { prefix: format!("test-{}", Uuid::new_v4().simple()) }
    }
}

impl Servers {
    async fn rabbitmq(&self) -> RabbitMq {
        let url = tokio::task::spawn_blocking(shared_amqp_url).await.unwrap();
        let broker = RabbitMq::new(vec![url.into()], Topology::new(self.prefix.as_str(), 3));
        // The cases take a broker that is there for granted.
        let is_up = async {
            while broker.check().await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, is_up).await.expect("the broker comes up");
        broker
    }
}

#[async_trait]
impl BrokerFixture for Servers {
    async fn connect(&self) -> Arc<dyn Broker> {
        Arc::new(self.rabbitmq().await)
    }
}

#[async_trait]
impl DeadLettersFixture for Servers {
    async fn broker(&self) -> Arc<dyn Broker> {
        Arc::new(self.rabbitmq().await)
    }

    async fn operator(&self) -> Arc<dyn DeadLetters> {
        Arc::new(self.rabbitmq().await)
    }

    fn is_exclusive(&self) -> bool {
        true
    }
}

#[async_trait]
impl StoreFixture for Servers {
    async fn connect(&self) -> Arc<dyn Store> {
        let url = tokio::task::spawn_blocking(shared_redis_url).await.unwrap();
        Arc::new(RedisStore::new(&url.into(), &self.prefix).unwrap())
    }
}

mod rabbitmq {
    tests::broker_suite!(super::Servers::fresh());
}

mod dead_letters {
    tests::dead_letters_suite!(super::Servers::fresh());
}

mod redis {
    tests::store_suite!(super::Servers::fresh());
}
