//! The embedded broker: queues in the SQLite file that the embedded store uses too.
//!
//! A stage is one ordered queue with one active consumer; only RabbitMQ has partitions. A limited number of each
//! conversation's messages is handed out at a time, so that a conversation with many messages does not keep the others
//! waiting. The file records which messages a consumer holds: after a crash the next process knows what its predecessor
//! held, and only that.

mod dead_letters;
mod read;
mod stages;
mod subscription;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use broker::MAX_LENGTH;
use broker::{Broker, Depths, Destination, Outgoing, Stage, Subscription};
use message::clock::Clock;
use message::failure::Failure;
use stages::Stages;
use subscription::EmbeddedSubscription;
use write::Taken;

use crate::Database;

/// Queues in the embedded database. Clones share their consumers: make one for a database, and clone it.
#[derive(Debug, Clone)]
pub struct EmbeddedBroker {
    database: Database,
    clock: Clock,
    stages: Arc<Stages>,
    row_limit: u64,
}

impl EmbeddedBroker {
    /// The queues of `database`, parking messages by `clock`.
    ///
    /// An idle consumer sleeps (in `tokio::time`) until a message arrives or the next parked one is due by `clock`, and
    /// for a second at most: another process may replay dead letters, and clocks are set.
    #[must_use]
    pub fn new(database: Database, clock: Clock) -> Self {
        Self { database, clock, stages: Arc::default(), row_limit: MAX_LENGTH.into() }
    }

    /// The same, but a stage takes only `max_length` messages, not a million.
    #[must_use]
    pub fn with_max_length(self, max_length: u32) -> Self {
        Self { row_limit: max_length.into(), ..self }
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    async fn publish(&self, messages: &[Outgoing]) -> Result<(), Failure> {
        if messages.is_empty() {
            return Ok(());
        }
        let (messages, row_limit, now_ms) = (messages.to_vec(), self.row_limit, self.now_ms());
        let (stages, touched) = (Arc::clone(&self.stages), touched(&messages));
        let add = move |connection: &rusqlite::Connection| write::add(connection, &messages, row_limit, now_ms);
        let taken = self.database.run_then(add, move |_| stages.wake(&touched)).await?;
        refuse_if_full(taken)
    }

    fn subscribe(&self, stage: Stage, prefetch: u16) -> Box<dyn Subscription> {
        Box::new(EmbeddedSubscription::new(self.clone(), stage, prefetch))
    }

    async fn depths(&self) -> Result<Depths, Failure> {
        self.database.run(write::depths).await
    }

    async fn check(&self) -> Result<(), Failure> {
        self.database.check().await
    }
}

/// The stages whose consumer has something new to do or to wait for.
fn touched(messages: &[Outgoing]) -> Vec<Stage> {
    let concerns = |stage: &Stage| {
        messages.iter().any(|message| match &message.destination {
            Destination::Work(s) | Destination::Delayed(s, _) => s == stage,
            Destination::Dead(..) => false,
        })
    };
    Stage::ALL.into_iter().filter(concerns).collect()
}

fn refuse_if_full(taken: Taken) -> Result<(), Failure> {
    match taken {
        Taken::All => Ok(()),
        Taken::Full(stage) => Err(Failure::transient(format!("queue full: {}", stage.as_str()))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use broker::{Delivery, Reason, ReasonName};
    use bytes::Bytes;
    use message::clock::Timestamp;
    use tokio::time::Instant;

    use super::*;

    fn message(destination: Destination, text: &str) -> Outgoing {
        let payload = Bytes::copy_from_slice(text.as_bytes());
        Outgoing { destination, id: None, key: None, trace: String::new(), payload }
    }

    fn work(text: &str) -> Outgoing {
        message(Destination::Work(Stage::Inbound), text)
    }

    fn broker(clock: Clock) -> EmbeddedBroker {
        EmbeddedBroker::new(Database::in_memory().unwrap(), clock)
    }

    fn redelivered(delivery: &Delivery) -> (&[u8], u32) {
        (&delivery.payload, delivery.redeliveries)
    }

    #[tokio::test]
    async fn a_full_stage_refuses_work_but_never_a_parked_or_dead_message() {
        let broker = EmbeddedBroker { row_limit: 2, ..broker(Clock::system()) };
        broker.publish(&[work("1")]).await.unwrap();
        let refused = broker.publish(&[work("2"), work("3")]).await.unwrap_err();
        assert!(refused.kind.is_retryable());
        assert_eq!(refused.to_string(), "queue full: inbound");
        let parked = message(Destination::Delayed(Stage::Inbound, Duration::from_secs(60)), "parked");
        let dead = message(Destination::Dead(Stage::Inbound, Reason::new(ReasonName::Permanent, "refused")), "dead");
        let two = [parked.clone(), parked, dead];
        broker.publish(&two).await.unwrap();
        broker.publish(&[work("2")]).await.unwrap_err();
        broker.publish(&[message(Destination::Work(Stage::Outbound), "another stage")]).await.unwrap();
        let depths = Depths { inbound: 1, outbound: 1, delayed: 2, dead: 1, receipts: 0 };
        assert_eq!(broker.depths().await.unwrap(), depths);

        let mut subscription = broker.subscribe(Stage::Inbound, 1);
        let first = subscription.next().await;
        first.settle(&[work("an effect")]).await.unwrap_err();
        assert_eq!(broker.depths().await.unwrap(), depths, "it is still ours");
        first.settle(&[]).await.unwrap();
    }

    #[tokio::test]
    async fn redeliveries_are_counted_for_each_time_handed_out() {
        let broker = broker(Clock::system());
        broker.publish(&[work("a"), work("b")]).await.unwrap();
        for times in 0..3 {
            let mut subscription = broker.subscribe(Stage::Inbound, 1);
            assert_eq!(redelivered(&subscription.next().await), (&b"a"[..], times));
        }
        broker.subscribe(Stage::Inbound, 1).close().await;
        let mut subscription = broker.subscribe(Stage::Inbound, 1);
        assert_eq!(
            redelivered(&subscription.next().await),
            (&b"a"[..], 3),
            "who never had its turn gives nothing back"
        );
        subscription.close().await;
        let mut subscription = broker.subscribe(Stage::Inbound, 1);
        assert_eq!(redelivered(&subscription.next().await), (&b"a"[..], 0), "it was given back in good order");
    }

    #[tokio::test]
    async fn of_two_who_settle_a_message_only_the_first_adds_effects() {
        let broker = broker(Clock::system());
        broker.publish(&[work("a")]).await.unwrap();
        let mut subscription = broker.subscribe(Stage::Inbound, 1);
        let stale = subscription.next().await;
        subscription.close().await;
        let fresh = broker.subscribe(Stage::Inbound, 1).next().await;
        let effect = message(Destination::Work(Stage::Outbound), "effect");
        fresh.settle(std::slice::from_ref(&effect)).await.unwrap();
        stale.settle(&[effect]).await.unwrap();
        assert_eq!(broker.depths().await.unwrap(), Depths { outbound: 1, ..Depths::default() });
    }

    #[tokio::test]
    async fn a_consumer_sleeps_until_the_clock_says_a_message_is_due() {
        let started = Instant::now();
        let broker = broker(Clock::from_fn(move || Timestamp::UNIX_EPOCH + started.elapsed()));
        let park = |ms, text| message(Destination::Delayed(Stage::Inbound, Duration::from_millis(ms)), text);
        broker.publish(&[park(500, "last"), park(200, "first"), work("now"), park(200, "second")]).await.unwrap();
        let mut subscription = broker.subscribe(Stage::Inbound, 1);
        for (at_ms, text) in [(0, "now"), (200, "first"), (200, "second"), (500, "last")] {
            assert_eq!(subscription.next().await.payload, text);
            assert!(started.elapsed() >= Duration::from_millis(at_ms), "{text} came after {:?}", started.elapsed());
        }
        assert_eq!(broker.depths().await.unwrap(), Depths { inbound: 4, ..Depths::default() });
    }

    #[tokio::test]
    async fn a_clock_moved_by_hand_is_noticed() {
        let now_ms = Arc::new(AtomicI64::new(0));
        let shared = Arc::clone(&now_ms);
        let clock = move || Timestamp::from_millisecond(shared.load(Ordering::SeqCst)).unwrap();
        let broker = broker(Clock::from_fn(clock));
        let parked = message(Destination::Delayed(Stage::Inbound, Duration::from_secs(7200)), "parked");
        broker.publish(&[parked]).await.unwrap();
        let mut subscription = broker.subscribe(Stage::Inbound, 1);
        let both = tokio::spawn(async move { [subscription.next().await.payload, subscription.next().await.payload] });
        tokio::task::yield_now().await;
        now_ms.store(7_200_000, Ordering::SeqCst);
        broker.publish(&[work("wakes")]).await.unwrap();
        let mut both = tokio::time::timeout(Duration::from_secs(30), both).await.expect("nothing woke it").unwrap();
        both.sort();
        assert_eq!(both, ["parked", "wakes"]);
    }

    #[tokio::test]
    async fn what_another_process_adds_is_found_by_a_consumer_that_never_waits_for_long() {
        let database = Database::in_memory().unwrap();
        let [ours, theirs] = [(); 2].map(|()| EmbeddedBroker::new(database.clone(), Clock::system()));
        let mut subscription = ours.subscribe(Stage::Inbound, 1);
        // The run loop abandons each wait as soon as anything else happens.
        let mut next = async || tokio::time::timeout(Duration::from_millis(50), subscription.next()).await;
        next().await.unwrap_err();
        theirs.publish(&[work("replayed")]).await.unwrap();
        for _ in 0..100 {
            if next().await.is_ok() {
                return;
            }
        }
        panic!("never found");
    }
}
