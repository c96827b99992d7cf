//! RabbitMQ and Redis pass both conformance suites, every case with a prefix of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::dead_letters::{DeadLetters, Filter, Letter, Order, Progress, replay, survey};
use broker::rabbitmq::RabbitMq;
use broker::{Broker, Destination, Outgoing, Reason, ReasonName, Stage, Topology};
use message::Envelope;
use message::clock::{Clock, Timestamp};
use store::Store;
use store::redis::RedisStore;
use tests::conformance::DEADLINE;
use tests::conformance::broker::BrokerFixture;
use tests::conformance::dead_letters::DeadLettersFixture;
use tests::conformance::store::StoreFixture;
use tests::samples::text_from;
use tests::servers::{RabbitMqServer, shared_amqp_url, shared_redis_url};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// The queues and records of one case.
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
        // The cases expect the broker to be up.
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

/// A letter that RabbitMQ itself dead-letters has none of our headers. Here it is dead after three deliveries, because
/// an operator set that limit.
#[tokio::test(flavor = "multi_thread")]
async fn g5_what_rabbitmq_sets_aside_itself_is_listed_with_its_reason_and_replayed() {
    let server = tokio::task::spawn_blocking(|| {
        let server = RabbitMqServer::start()?;
        server.ctl(&["set_policy", "limit", "^limited", r#"{"delivery-limit":3}"#, "--apply-to", "queues"])?;
        anyhow::Ok(server)
    });
    let server = server.await.unwrap().unwrap();
    let broker = RabbitMq::new(vec![server.url().into()], Topology::new("limited", 3));
    let envelope = text_from(1, 0, "poison");
    let published = async {
        while broker.publish(&[Outgoing::new(Destination::Work(Stage::Inbound), &envelope)]).await.is_err() {}
    };
    timeout(DEADLINE, published).await.expect("the broker comes up");
    let dies = async {
        while broker.depths().await.unwrap().dead == 0 {
            let mut subscription = broker.subscribe(Stage::Inbound, 1);
            // The message goes back unsettled, as from a dying process.
            drop(timeout(Duration::from_secs(1), subscription.next()).await);
            subscription.close().await;
        }
    };
    timeout(DEADLINE * 6, dies).await.expect("RabbitMQ gives up on it");
    let mut walk = DeadLetters::open(&broker, None).await.unwrap();
    let letter = Letter::read(walk.next().await.unwrap().expect("one lies there"));
    walk.close().await;
    assert_eq!((letter.reason.as_str(), letter.stage), ("delivery_limit", Stage::Inbound));
    assert!(letter.detail.contains(".inbound."), "{}", letter.detail);
    assert!(letter.died_at.is_some());
    assert_eq!(letter.envelope().unwrap().id, envelope.id);
    let order = Order { filter: Filter::default(), limit: None, rate_per_second: 0, by: "somebody".to_owned() };
    let mut progress = Progress::default();
    replay(&broker, &order, &Clock::system(), &mut progress).await.unwrap();
    assert_eq!(progress.replayed, 1);
    let mut subscription = broker.subscribe(Stage::Inbound, 1);
    let delivery = timeout(DEADLINE, subscription.next()).await.unwrap();
    assert_eq!(Envelope::decode(&delivery.payload).unwrap().times_replayed(), 1);
    delivery.settle(&[]).await.unwrap();
    subscription.close().await;
}

/// An operator's configuration may be older than that of the running services. Listing dead letters must not change it.
#[tokio::test(flavor = "multi_thread")]
async fn g8_dead_letters_leave_the_number_of_partitions_and_the_queues_alone() {
    let servers = Servers::fresh();
    let broker = servers.rabbitmq().await;
    let letter = Destination::Dead(Stage::Inbound, Reason::new(ReasonName::Expired, "why"));
    broker.publish(&[Outgoing::new(letter, &text_from(1, 0, "hi"))]).await.unwrap();
    // No process runs any more, so the number could be changed now.
    drop(broker);
    let url = tokio::task::spawn_blocking(shared_amqp_url).await.unwrap();
    let operator = |topology| RabbitMq::new(vec![url.into()], topology);
    let other_number = operator(Topology::new(servers.prefix.as_str(), 2));
    let refusal = DeadLetters::open(&other_number, None).await.err().expect("another number is refused").to_string();
    assert!(refusal.contains("broker.partitions is 2 here but 3 is in force"), "{refusal}");
    // The length limit of the queues does not matter to a process that only lists and publishes.
    let other_length = operator(Topology::new(servers.prefix.as_str(), 3).with_max_length(7));
    let order = Order { filter: Filter::default(), limit: None, rate_per_second: 0, by: "somebody".to_owned() };
    let mut progress = Progress::default();
    replay(&other_length, &order, &Clock::system(), &mut progress).await.unwrap();
    assert_eq!(progress.replayed, 1);
}

/// A quorum queue delivers a bounded number of messages to a consumer, whatever its prefetch.
#[tokio::test(flavor = "multi_thread")]
async fn a_walk_passes_more_dead_letters_than_one_consumer_may_hold() {
    const COUNT: u32 = 25_000;
    let servers = Servers::fresh();
    let broker = servers.rabbitmq().await;
    let letters: Vec<_> = (0..COUNT)
        .rev()
        .map(|number| {
            let mut envelope = text_from(1, number, "hi");
            envelope.accepted_at = Timestamp::from_second(number.into()).unwrap();
            Outgoing::new(Destination::Dead(Stage::Inbound, Reason::new(ReasonName::Expired, "why")), &envelope)
        })
        .collect();
    for some in letters.chunks(1000) {
        broker.publish(some).await.unwrap();
    }
    let first = |count: usize| letters.iter().rev().take(count).map(|letter| letter.id).collect::<Vec<_>>();
    for _ in 0..2 {
        let mut walk = DeadLetters::open(&broker, None).await.unwrap();
        let id = |letter: Letter| Some(letter.envelope().map(|envelope| envelope.id));
        let found = survey(&mut *walk, &Filter::default(), Timestamp::MAX, 10, id).await.unwrap();
        walk.close().await;
        assert_eq!((found.matched(), found.first), (COUNT.into(), first(10)));
    }
    // The limit is more than one slice of letters, and they lie at the far end of the queue.
    let order = Order { filter: Filter::default(), limit: Some(12_000), rate_per_second: 0, by: "somebody".to_owned() };
    let mut progress = Progress::default();
    replay(&broker, &order, &Clock::system(), &mut progress).await.unwrap();
    assert_eq!(progress.replayed, 12_000);
    let mut subscription = broker.subscribe(Stage::Inbound, 64);
    let mut settling = JoinSet::new();
    for expected in first(12_000) {
        let delivery = timeout(DEADLINE, subscription.next()).await.unwrap();
        assert_eq!(Some(Envelope::decode(&delivery.payload).unwrap().id), expected);
        settling.spawn(async move { delivery.settle(&[]).await.unwrap() });
    }
    settling.join_all().await;
    subscription.close().await;
}
