//! Servers are killed and restarted under running roles. None of our processes is restarted, no accepted text is lost,
//! and none is answered twice or out of order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use simulator::Answer;
use tests::house::{Backend, Blueprint, House};
use tests::servers::{RabbitMqServer, RedisServer};

const CONVERSATIONS: usize = 6;
const TURNS: usize = 12;

struct Servers {
    rabbitmq: RabbitMqServer,
    redis: RedisServer,
}

impl Servers {
    /// Servers of this test alone, so that other tests do not notice their faults.
    fn start() -> Self {
        Self { rabbitmq: RabbitMqServer::start().unwrap(), redis: RedisServer::start().unwrap() }
    }

    fn backend(&self) -> Backend {
        Backend::Servers { amqp: vec![self.rabbitmq.url().to_owned()], redis: self.redis.url().to_owned() }
    }
}

/// Texts numbers in every conversation while `break_servers` runs. Then asserts that each text was accepted at the
/// first attempt and answered once, in order.
async fn survives(break_servers: impl FnOnce(&Servers) + Send + 'static) {
    let servers = Arc::new(tokio::task::spawn_blocking(Servers::start).await.unwrap());
    let house = House::open(Blueprint { workers: 2, ..Blueprint::new(servers.backend()) }).await;
    house.simulator.assistant().answer_with(|turn| Answer::text(turn.text.clone()));
    let customer = |number: usize| format!("+1303555{:04}", 3000 + number);
    house.text(&customer(0), "0").await;
    house.replies(&customer(0), 1).await;

    let breaking = tokio::task::spawn_blocking({
        let servers = Arc::clone(&servers);
        move || break_servers(&servers)
    });
    let texting = (0..CONVERSATIONS).map(|conversation| {
        let (house, customer) = (&house, customer(conversation));
        async move {
            for turn in usize::from(conversation == 0)..TURNS {
                house.text(&customer, &turn.to_string()).await;
            }
        }
    });
    futures_util::future::join_all(texting).await;
    breaking.await.unwrap();

    let expected: Vec<String> = (0..TURNS).map(|turn| turn.to_string()).collect();
    for conversation in 0..CONVERSATIONS {
        assert_eq!(house.replies(&customer(conversation), TURNS).await, expected, "conversation {conversation}");
    }
    // If a text had been repeated, its repeated answer would be there by the time every queue is empty.
    house.await_depths(|depths| depths.inbound + depths.outbound + depths.delayed == 0).await;
    for conversation in 0..CONVERSATIONS {
        assert_eq!(house.sent_to(&customer(conversation)).len(), TURNS, "conversation {conversation}");
    }
    house.close(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_rabbitmq_is_killed_and_started_again() {
    survives(|servers| {
        servers.rabbitmq.kill().unwrap();
        servers.rabbitmq.start_again().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_rabbitmq_is_restarted_and_its_connections_are_cut() {
    survives(|servers| {
        servers.rabbitmq.close_all_connections().unwrap();
        servers.rabbitmq.stop().unwrap();
        servers.rabbitmq.start_again().unwrap();
        servers.rabbitmq.close_all_connections().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_redis_is_killed_and_started_again() {
    survives(|servers| {
        servers.redis.kill().unwrap();
        servers.redis.start_again().unwrap();
    })
    .await;
}
