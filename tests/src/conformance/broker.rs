//! The contract of every broker adapter. The cases are grouped by topic.

mod delivery;
mod durability;
mod handover;
mod order;
mod parking;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::{Broker, Delivery, Depths, Destination, Outgoing, Reason, Stage, Subscription};
use bytes::Bytes;
use message::{Body, Envelope};
use tokio::time::{Instant, sleep, timeout};

use super::{DEADLINE, WATCH};
use crate::samples::text_from;

pub use delivery::*;
pub use durability::*;
pub use handover::*;
pub use order::*;
pub use parking::*;

/// Queues of one case's own, empty at first.
#[async_trait]
pub trait BrokerFixture: Send + Sync {
    /// Another, independent connection to the same queues, as another worker process would have.
    async fn connect(&self) -> Arc<dyn Broker>;

    /// A connection to the same queues after a restart, as far as the fixture can do one. Every broker, subscription
    /// and delivery that came from [`BrokerFixture::connect`] has been dropped by then.
    async fn reopen(&self) -> Arc<dyn Broker> {
        self.connect().await
    }

    /// The most unsettled messages of one conversation that a subscriber with `prefetch` may get.
    fn most_held(&self, prefetch: u16) -> usize {
        usize::from(prefetch)
    }
}

/// Makes a `#[tokio::test]` of every case. `$fixture` is an expression that returns a fresh fixture.
#[macro_export]
macro_rules! broker_suite {
    ($fixture:expr) => {
        $crate::broker_suite!(@cases $fixture;
            what_is_published_arrives
            stages_do_not_mix
            payloads_without_a_conversation_arrive
            a_payload_of_256_kib_arrives
            a_waiting_subscriber_is_woken
            cancelling_next_loses_nothing
            settling_removes
            effects_go_to_every_kind_of_destination
            prefetch_bounds_what_is_held
            depths_count_what_waits
            the_check_passes_and_leaves_nothing
            published_messages_outlive_a_restart
            what_was_settled_stays_away_after_a_restart
            one_conversation_keeps_its_order
            interleaved_conversations_keep_their_orders
            concurrent_publishers_lose_nothing
            settling_out_of_order_loses_nothing
            a_lost_consumer_s_messages_come_again_first_and_in_order
            what_is_given_back_comes_first_unchanged_and_in_order
            a_stopping_consumer_loses_nothing
            only_one_subscriber_has_a_conversation_at_a_time
            a_second_subscriber_takes_over
            settling_after_giving_back_is_no_error
            a_delayed_message_waits_and_keeps_its_place
            dead_letters_are_counted_and_not_delivered
        );
    };
    (@cases $fixture:expr; $($case:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::conformance::broker::$case(&$fixture).await;
        })*
    };
}

/// Text `number` of `customer`, on its way to the workers of `stage`.
fn work(stage: Stage, customer: u16, number: u32) -> Outgoing {
    Outgoing::new(Destination::Work(stage), &text_from(customer, number, "what are your opening hours?"))
}

/// Texts `numbers` of `customer`, inbound.
fn inbound(customer: u16, numbers: std::ops::Range<u32>) -> Vec<Outgoing> {
    numbers.map(|number| work(Stage::Inbound, customer, number)).collect()
}

/// The customer and the number of the text in a delivery.
fn which(delivery: &Delivery) -> (u16, u32) {
    let envelope = Envelope::decode(&delivery.payload).expect("only envelopes were published");
    let Body::Inbound(inbound) = envelope.body else { panic!("only inbound texts were published") };
    let (customer, number) = inbound
        .provider_message_id
        .strip_prefix("SM-")
        .and_then(|rest| rest.split_once('-'))
        .expect("samples are named SM-customer-number");
    (customer.parse().unwrap(), number.parse().unwrap())
}

/// The next delivery; panics after the deadline.
async fn receive(subscription: &mut Box<dyn Subscription>) -> Delivery {
    timeout(DEADLINE, subscription.next()).await.expect("no delivery came")
}

/// The next `count` deliveries, all of them unsettled.
async fn receive_many(subscription: &mut Box<dyn Subscription>, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for received in 0..count {
        let next = timeout(DEADLINE, subscription.next()).await;
        deliveries.push(next.unwrap_or_else(|_| panic!("only {received} of {count} deliveries came")));
    }
    deliveries
}

/// Receives and settles the next `count` deliveries; returns their customers and numbers.
async fn settle_many(subscription: &mut Box<dyn Subscription>, count: usize) -> Vec<(u16, u32)> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let delivery = receive(subscription).await;
        delivery.settle(&[]).await.unwrap();
        seen.push(which(&delivery));
    }
    seen
}

/// Asserts that no delivery comes for a while.
async fn assert_silent(subscription: &mut Box<dyn Subscription>) {
    if let Ok(delivery) = timeout(WATCH, subscription.next()).await {
        panic!("text {:?} came", which(&delivery));
    }
}

/// Waits until the depths are `expected`, because a broker may update its counts a moment later.
async fn assert_depths(broker: &dyn Broker, expected: Depths) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = broker.depths().await.unwrap();
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?} instead of {expected:?}");
        sleep(Duration::from_millis(50)).await;
    }
}
