//! The operations listener's answers while a server is away or a stage is stuck: each role's readiness under its own
//! conditions, liveness, and gauges that are as fresh as the answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tests::house::{Backend, Blueprint, DEADLINE, House};
use tests::servers::{RabbitMqServer, RedisServer, shared_amqp_url, shared_redis_url};
use tokio::time::sleep;

const CUSTOMER: &str = "+13035550123";

/// Waits until `path` answers `status`. Returns the whole answer.
async fn until(house: &House, path: &str, status: u16) -> Value {
    let mut last = (0, String::new());
    let answered = async {
        loop {
            last = house.ask(path).await;
            if last.0 == status {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let in_time = tokio::time::timeout(DEADLINE, answered).await.is_ok();
    assert!(in_time, "{path} answers {} and not {status}: {}", last.0, last.1);
    serde_json::from_str(&last.1).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t1_while_the_store_is_away_the_front_door_is_ready_and_a_stage_that_stays_stuck_fails_liveness() {
    let redis = Arc::new(tokio::task::spawn_blocking(RedisServer::start).await.unwrap().unwrap());
    let backend = Backend::Servers { amqp: vec![shared_amqp_url().to_owned()], redis: redis.url().to_owned() };
    let dead_after = Duration::from_secs(2);
    let house = House::open(Blueprint { dead_after, ..Blueprint::new(backend) }).await;
    until(&house, "/health/ready/worker", 200).await;
    let on_redis = async |work: fn(&RedisServer) -> anyhow::Result<()>| {
        let redis = Arc::clone(&redis);
        tokio::task::spawn_blocking(move || work(&redis)).await.unwrap().unwrap();
    };
    on_redis(RedisServer::stop).await;
    for role in ["worker", "sender"] {
        let problem = until(&house, &format!("/health/ready/{role}"), 503).await;
        assert_eq!((&problem["status"], &problem["roles"][role]), (&503.into(), &"not ready".into()), "{problem}");
    }
    for path in ["/health/ready/ingress", "/health/ready"] {
        let (status, body) = house.ask(path).await;
        assert_eq!(status, 200, "{path}: the front door takes texts: {body}");
        assert!(body.contains(r#""worker":"not ready""#) && body.contains(r#""store":"failing"#), "{body}");
    }
    assert_eq!(house.ask("/health/ready/control").await.0, 404);

    // No texts arrive yet. An idle stage is alive, however long the store is away.
    sleep(dead_after).await;
    until(&house, "/health/live", 200).await;
    house.text(CUSTOMER, "hello").await;
    let problem = until(&house, "/health/live", 503).await;
    assert_eq!(problem["checks"]["inbound"], "stuck: 1 messages wait and none moves", "{problem}");
    let (_, metrics) = house.ask("/metrics").await;
    let oldest =
        metrics.lines().find_map(|line| line.strip_prefix("switchboard_oldest_waiting_seconds{stage=\"inbound\"} "));
    assert!(oldest.unwrap().parse::<f64>().unwrap() >= dead_after.as_secs_f64(), "{oldest:?}");
    assert_eq!(house.ask("/health/ready").await.0, 200);

    on_redis(RedisServer::start_again).await;
    house.replies(CUSTOMER, 1).await;
    until(&house, "/health/live", 200).await;
    until(&house, "/health/ready/worker", 200).await;
    house.close(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b12_no_gauge_keeps_its_value_while_broker_or_store_cannot_be_asked() {
    let rabbitmq = Arc::new(tokio::task::spawn_blocking(RabbitMqServer::start).await.unwrap().unwrap());
    let backend = Backend::Servers { amqp: vec![rabbitmq.url().to_owned()], redis: shared_redis_url().to_owned() };
    let house = House::open(Blueprint::new(backend)).await;
    let depths = async || house.ask("/metrics").await.1.matches("\nswitchboard_queue_messages{").count();
    assert_eq!(depths().await, 5, "one for each kind of queue");
    let server = Arc::clone(&rabbitmq);
    tokio::task::spawn_blocking(move || server.stop()).await.unwrap().unwrap();
    assert_eq!(depths().await, 0, "a depth of before the broker went away");
    let server = Arc::clone(&rabbitmq);
    tokio::task::spawn_blocking(move || server.start_again()).await.unwrap().unwrap();
    let all_told = async {
        while depths().await != 5 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(DEADLINE, all_told).await.expect("the depths are told again");
    house.close(0).await;
}
