//! A slow or dead neighbour slows intake down in the right place: messages wait at the broker, not in memory, and all
//! of them are processed once the neighbour is back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use broker::Stage;
use simulator::{Answer, Fault, Route, Text};
use tests::house::{Backend, Blueprint, DEADLINE, House, text_until_accepted};
use tests::traffic::Traffic;

const CONVERSATIONS: usize = 500;
/// The number of turns or calls that a role handles at a time in these tests, and the most messages that it may hold
/// then.
const CONCURRENCY: usize = 4;
const MOST_HELD: u64 = 256;
/// The least number of messages that wait at the broker: RabbitMQ's counts do not include the messages that consumers
/// hold.
const WAITING: u64 = CONVERSATIONS as u64 - MOST_HELD - 50;

/// A house with a low concurrency.
fn narrow(backend: Backend) -> Blueprint {
    Blueprint { concurrency: CONCURRENCY, ..Blueprint::new(backend) }
}

/// Waits until `stage` holds all the messages it can and makes no progress, and asserts that it never holds more than
/// allowed.
async fn assert_bounded(house: &House, stage: Stage) {
    let progress = house.ports.progress.of(stage);
    let full = async {
        while progress.held().messages < CONCURRENCY as u64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, full).await.expect("it takes what it can");
    for _ in 0..100 {
        let held = progress.held().messages;
        assert!(held <= MOST_HELD, "{held} are held");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn text_once_each(house: &House) {
    Traffic { conversations: CONVERSATIONS, turns: 1, gap: Duration::ZERO }.text(house).await;
}

async fn judge(house: &House) {
    Traffic { conversations: CONVERSATIONS, turns: 1, gap: Duration::ZERO }.judge(house).await;
}

async fn a_slow_assistant(backend: Backend) {
    let house = House::open(narrow(backend)).await;
    let may_answer = tokio_util::sync::CancellationToken::new();
    let waits = may_answer.clone();
    house.simulator.assistant().answer_later_with(move |turn| {
        let waits = waits.clone();
        async move {
            // The assistant does not answer until the test allows it.
            waits.cancelled().await;
            Answer::text(turn.text)
        }
    });
    text_once_each(&house).await;
    assert_bounded(&house, Stage::Inbound).await;
    house.await_depths(|depths| depths.inbound >= WAITING && depths.outbound == 0).await;
    may_answer.cancel();
    judge(&house).await;
    house.close(0).await;
}

async fn a_dead_provider(backend: Backend) {
    let house = House::open(narrow(backend)).await;
    Traffic::echo(&house);
    house.simulator.fail(Route::TwilioSend, Fault::retry_after(429, 1).always());
    text_once_each(&house).await;
    house.await_depths(|depths| depths.inbound == 0 && depths.outbound + depths.delayed >= WAITING).await;
    assert_bounded(&house, Stage::Outbound).await;
    assert!(house.simulator.messages().is_empty());
    house.simulator.clear_faults();
    judge(&house).await;
    house.close(0).await;
}

/// Without a sender, both the outbound and the inbound queue fill up; both are small.
async fn full_queues(backend: Backend) {
    const MOST: u32 = 30;
    let mut house =
        House::open(Blueprint { max_length: MOST, senders: 0, spool_limit_bytes: 0, ..narrow(backend) }).await;
    Traffic::echo(&house);
    let mut accepted = Vec::new();
    let phone = house.simulator.phone();
    for number in 0.. {
        let customer = Traffic::customer(number);
        match phone.send(Text::new(&customer, &house.number, "0")).await.unwrap().status {
            204 => accepted.push(customer),
            503 => {
                // A full queue counts only once no messages move any more: the worker must have filled what it can.
                let depths = house.ports.broker.depths().await.unwrap();
                if depths.outbound >= u64::from(MOST) && depths.inbound >= u64::from(MOST) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            status => panic!("{status}"),
        }
        assert!(number < 5_000, "the front door takes everything although nothing goes out");
    }
    assert_bounded(&house, Stage::Inbound).await;
    house.add_sender();
    for customer in &accepted {
        assert_eq!(house.replies(customer, 1).await, ["0"]);
    }
    let refused = Traffic::customer(5_001);
    text_until_accepted(&phone, &house.number, &refused, "0").await;
    assert_eq!(house.replies(&refused, 1).await, ["0"]);
    house.close(0).await;
}

macro_rules! on_both_backends {
    ($($test:ident => $name:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$test(super::Backend::Embedded).await; })+
        }
        mod servers {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$test(super::Backend::shared_servers()).await; })+
        }
    };
}

on_both_backends!(
    a_slow_assistant => g8_a_slow_assistant_leaves_texts_at_the_broker,
    a_dead_provider => g8_a_throttling_provider_leaves_parts_at_the_broker,
    full_queues => g8_full_queues_stop_the_worker_and_then_the_front_door,
);
