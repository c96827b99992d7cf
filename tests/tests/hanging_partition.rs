//! The leader of one partition hangs. Its texts are accepted and wait on disk, in order; all others are answered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "its figures are for people")]

use std::sync::Arc;

use broker::Stage;
use futures_util::future::join_all;
use simulator::Answer;
use tests::house::{Backend, Blueprint, House};
use tests::servers::{RabbitMqServer, Release, shared_redis_url};
use tokio::time::Instant;

/// The number of conversations. The texts of the hanging partition must be more than 32 messages, because RabbitMQ
/// stops reading from a channel after 32 messages to a queue that does not answer.
const CONVERSATIONS: usize = 200;

fn customer(conversation: usize) -> String {
    format!("+1303555{:04}", 4000 + conversation)
}

async fn blocking(server: &Arc<RabbitMqServer>, work: impl FnOnce(&RabbitMqServer) + Send + 'static) {
    let server = Arc::clone(server);
    tokio::task::spawn_blocking(move || work(&server)).await.unwrap();
}

/// Each conversation texts the numbers of `range`, in order.
async fn text(house: &House, range: std::ops::Range<usize>) {
    let texting = (0..CONVERSATIONS).map(|conversation| {
        let range = range.clone();
        async move {
            for number in range {
                house.text(&customer(conversation), &number.to_string()).await;
            }
        }
    });
    let began = Instant::now();
    join_all(texting).await;
    println!("texts {range:?} of {CONVERSATIONS} conversations were accepted within {:?}", began.elapsed());
}

/// Waits until `conversations` have replies to texts 0 to `count`, each exactly once and in order.
async fn are_answered(house: &House, conversations: &[usize], count: usize) {
    let expected: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    let began = Instant::now();
    for conversation in conversations {
        assert_eq!(house.replies(&customer(*conversation), count).await, expected, "conversation {conversation}");
    }
    println!("{} conversations had {count} replies each after {:?}", conversations.len(), began.elapsed());
}

async fn costs_no_other(release: Release) {
    let server = tokio::task::spawn_blocking(move || RabbitMqServer::start_release(release)).await.unwrap().unwrap();
    let server = Arc::new(server);
    let backend = Backend::Servers { amqp: vec![server.url().to_owned()], redis: shared_redis_url().to_owned() };
    let mut house = House::open(Blueprint::new(backend)).await;
    house.simulator.assistant().answer_with(|turn| Answer::text(turn.text.clone()));
    let sick_queue = house.queue_of(&customer(0), Stage::Inbound);
    let (sick, healthy): (Vec<_>, Vec<_>) = (0..CONVERSATIONS)
        .partition(|conversation| house.queue_of(&customer(*conversation), Stage::Inbound) == sick_queue);
    text(&house, 0..1).await;
    are_answered(&house, &[sick.clone(), healthy.clone()].concat(), 1).await;

    let hanging = sick_queue.clone();
    blocking(&server, move |server| server.suspend_queue(&hanging).unwrap()).await;
    text(&house, 1..4).await;
    are_answered(&house, &healthy, 4).await;
    house.restart_ingress().await;
    text(&house, 4..6).await;
    are_answered(&house, &healthy, 6).await;
    for conversation in &sick {
        assert_eq!(house.sent_to(&customer(*conversation)).len(), 1, "{sick_queue} hangs");
    }
    blocking(&server, move |server| server.resume_queue(&sick_queue).unwrap()).await;
    are_answered(&house, &sick, 6).await;
    house.close(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_b2_a_hanging_partition_keeps_no_other_from_being_answered() {
    costs_no_other(Release::Usual).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_b2_a_hanging_partition_of_a_newer_rabbitmq_keeps_no_other_from_being_answered() {
    let Some(release) = Release::newer() else { return };
    costs_no_other(release).await;
}
