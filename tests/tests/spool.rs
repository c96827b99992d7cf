//! G1 through the front door: while RabbitMQ is away, blocked or full, texts are accepted and wait on disk. They are
//! answered once and in order when it accepts messages again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use simulator::{Answer, WebhookAnswer};
use tests::house::{Backend, Blueprint, House};
use tests::servers::{RabbitMqServer, shared_redis_url};

const CUSTOMER: &str = "+13035550190";

/// A RabbitMQ of the test's own, and a house on it that echoes each text.
async fn house_on(change: impl FnOnce(&mut Blueprint)) -> (Arc<RabbitMqServer>, House) {
    let server = tokio::task::spawn_blocking(RabbitMqServer::start).await.unwrap().unwrap();
    let backend = Backend::Servers { amqp: vec![server.url().to_owned()], redis: shared_redis_url().to_owned() };
    let mut blueprint = Blueprint::new(backend);
    change(&mut blueprint);
    let house = House::open(blueprint).await;
    house.simulator.assistant().answer_with(|turn| Answer::text(turn.text.clone()));
    (Arc::new(server), house)
}

async fn blocking(server: &Arc<RabbitMqServer>, work: impl FnOnce(&RabbitMqServer) + Send + 'static) {
    let server = Arc::clone(server);
    tokio::task::spawn_blocking(move || work(&server)).await.unwrap();
}

/// Texts the numbers of `range`. Returns the texts.
async fn text_numbers(house: &House, range: std::ops::Range<usize>) -> Vec<String> {
    let texts: Vec<String> = range.map(|number| number.to_string()).collect();
    for text in &texts {
        house.text(CUSTOMER, text).await;
    }
    texts
}

async fn try_text(house: &House, body: &str) -> WebhookAnswer {
    house.simulator.phone().text(CUSTOMER, &house.number, body).await.unwrap()
}

async fn ready(house: &House) -> (u16, Value) {
    let client = providers::http_client::client(Duration::from_secs(30)).unwrap();
    let response = client.get(format!("{}/health/ready", house.operations_url)).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn metrics(house: &House) -> String {
    let client = providers::http_client::client(Duration::from_secs(30)).unwrap();
    client.get(format!("{}/metrics", house.operations_url)).send().await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_texts_are_accepted_while_rabbitmq_is_down_also_by_an_ingress_that_restarts_meanwhile() {
    let (server, mut house) = house_on(|_| {}).await;
    let mut texts = text_numbers(&house, 0..2).await;
    house.replies(CUSTOMER, 2).await;
    blocking(&server, |server| server.stop().unwrap()).await;
    texts.extend(text_numbers(&house, 2..4).await);
    let started = Instant::now();
    texts.extend(text_numbers(&house, 4..14).await);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "once the broker is known to be away nobody waits for it: {took:?}");

    let (status, body) = ready(&house).await;
    assert_eq!(status, 200, "it can take messages: {body}");
    assert_eq!(body["checks"]["spool"], "in use: 12 messages wait for the broker", "{body}");
    assert_ne!(body["checks"]["broker"], "ok", "{body}");
    assert!(metrics(&house).await.contains("switchboard_spool_messages "), "the depth is told");

    house.restart_ingress().await;
    texts.extend(text_numbers(&house, 14..17).await);
    blocking(&server, |server| server.start_again().unwrap()).await;
    texts.extend(text_numbers(&house, 17..20).await);
    assert_eq!(house.replies(CUSTOMER, texts.len()).await, texts);
    house.close(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_many_conversations_text_through_an_outage_and_none_loses_or_reorders_a_text() {
    const CONVERSATIONS: usize = 40;
    const TEXTS: usize = 15;
    let (server, mut house) = house_on(|blueprint| blueprint.workers = 2).await;
    let customer = |number: usize| format!("+1303555{:04}", 4000 + number);
    let texting = (0..CONVERSATIONS).map(|conversation| {
        let (house, server, customer) = (&house, &server, customer(conversation));
        async move {
            for text in 0..TEXTS {
                // The node goes down and comes back while all customers text, in the middle of a conversation.
                match (conversation, text) {
                    (0, 3) => blocking(server, |server| server.kill().unwrap()).await,
                    (0, 9) => blocking(server, |server| server.start_again().unwrap()).await,
                    _ => {}
                }
                house.text(&customer, &text.to_string()).await;
            }
        }
    });
    futures_util::future::join_all(texting).await;
    house.restart_ingress().await;
    let expected: Vec<String> = (0..TEXTS).map(|text| text.to_string()).collect();
    for conversation in 0..CONVERSATIONS {
        assert_eq!(house.replies(&customer(conversation), TEXTS).await, expected, "conversation {conversation}");
    }
    house.close(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_texts_are_accepted_while_rabbitmq_is_blocked_or_its_queue_is_full() {
    let (server, mut house) = house_on(|blueprint| blueprint.workers = 0).await;
    let mut texts = text_numbers(&house, 0..1).await;
    blocking(&server, |server| server.set_memory_alarm(true).unwrap()).await;
    texts.extend(text_numbers(&house, 1..4).await);
    assert_eq!(ready(&house).await.1["checks"]["spool"], "in use: 3 messages wait for the broker");
    blocking(&server, |server| server.set_memory_alarm(false).unwrap()).await;
    house.await_depths(|depths| depths.inbound >= 4).await;

    let full = ["set_policy", "--apply-to", "queues", "full", r"\.inbound\.", r#"{"max-length": 1}"#];
    blocking(&server, move |server| drop(server.ctl(&full).unwrap())).await;
    // A policy takes a moment to reach the queues.
    while ready(&house).await.1["checks"]["spool"] == "ok" {
        let number = texts.len();
        texts.extend(text_numbers(&house, number..number + 1).await);
        assert!(number < 200, "the queue never refused");
    }
    let number = texts.len();
    texts.extend(text_numbers(&house, number..number + 3).await);
    blocking(&server, |server| drop(server.ctl(&["clear_policy", "full"]).unwrap())).await;
    house.add_worker();
    assert_eq!(house.replies(CUSTOMER, texts.len()).await, texts);
    house.close(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_a_full_spool_refuses_with_a_problem_and_keeps_what_it_accepted() {
    let (server, house) = house_on(|blueprint| blueprint.spool_limit_bytes = 8 * 1024).await;
    blocking(&server, |server| server.stop().unwrap()).await;
    let mut texts = Vec::new();
    let refused = loop {
        let text = texts.len().to_string();
        let answer = try_text(&house, &text).await;
        match answer.status {
            204 => texts.push(text),
            _ => break answer,
        }
        assert!(texts.len() < 100, "8 KiB are never full");
    };
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.content_type.is_some_and(|kind| kind == "application/problem+json"));
    assert!(texts.len() > 5, "only {} texts in 8 KiB", texts.len());
    let (status, body) = ready(&house).await;
    assert_eq!((status, &body["checks"]["spool"]), (503, &"full".into()), "{body}");
    blocking(&server, |server| server.start_again().unwrap()).await;
    assert_eq!(house.replies(CUSTOMER, texts.len()).await, texts);
    house.close(0).await;
}
