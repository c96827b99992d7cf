//! A message that a worker holds for too long returns to the broker and is delivered again. A worker that stops does
//! not wait for an answer of a broker that hangs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its figures are for people")]

use std::sync::Arc;
use std::time::Duration;

use broker::rabbitmq::RabbitMq;
use broker::{Broker, Delivery, Destination, Outgoing, Stage, Subscription, Topology};
use message::Envelope;
use tests::samples::text_from;
use tests::servers::{RabbitMqServer, Release};
use tokio::time::{Instant, sleep, timeout};

const IN_TIME: Duration = Duration::from_secs(60);

async fn blocking<T: Send + 'static>(
    server: &Arc<RabbitMqServer>,
    work: impl FnOnce(&RabbitMqServer) -> anyhow::Result<T> + Send + 'static,
) -> T {
    let server = Arc::clone(server);
    tokio::task::spawn_blocking(move || work(&server)).await.unwrap().unwrap()
}

async fn server(release: Release) -> Arc<RabbitMqServer> {
    let start = move || RabbitMqServer::start_release(release);
    Arc::new(tokio::task::spawn_blocking(start).await.unwrap().unwrap())
}

async fn broker(server: &RabbitMqServer) -> RabbitMq {
    let broker = RabbitMq::new(vec![server.url().into()], Topology::new("deadlines", 2));
    let up = async {
        while broker.check().await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(IN_TIME, up).await.expect("it comes up");
    broker
}

async fn next(subscription: &mut Box<dyn Subscription>) -> (u32, Delivery) {
    let delivery = timeout(IN_TIME, subscription.next()).await.expect("a message comes");
    let envelope = Envelope::decode(&delivery.payload).unwrap();
    let number = (0..9).find(|number| text_from(1, *number, "hi").id == envelope.id).unwrap();
    (number, delivery)
}

async fn shorten_deadlines(server: &Arc<RabbitMqServer>) {
    // RabbitMQ checks the deadline once a minute before 4.3, and as soon as it has passed from 4.3 on.
    let shorten = "application:set_env(rabbit, consumer_timeout, 3000),
                   application:set_env(rabbit, channel_tick_interval, 1000).";
    blocking(server, move |server| server.ctl(&["eval", shorten])).await;
}

async fn held_too_long_on(release: Release) {
    let server = server(release).await;
    shorten_deadlines(&server).await;
    let broker = broker(&server).await;
    let text = |number| Outgoing::new(Destination::Work(Stage::Inbound), &text_from(1, number, "hi"));
    broker.publish(&[text(0), text(1), text(2)]).await.unwrap();
    let mut subscription = broker.subscribe(Stage::Inbound, 2);
    let (held, waiting) = (next(&mut subscription).await, next(&mut subscription).await);
    assert_eq!((held.0, waiting.0), (0, 1));

    let started = Instant::now();
    let again = next(&mut subscription).await;
    println!("on {release:?} it came again after {:?}", started.elapsed());
    assert_eq!(again.0, 0, "what was held comes first");
    assert!(again.1.redeliveries > 0 && !held.1.is_ours() && !waiting.1.is_ours());
    held.1.settle(&[]).await.expect("too late is no failure");
    again.1.settle(&[]).await.unwrap();
    for number in [1, 2] {
        let (came, delivery) = next(&mut subscription).await;
        assert_eq!(came, number);
        delivery.settle(&[]).await.unwrap();
    }
    subscription.close().await;
    assert_eq!(broker.depths().await.unwrap().inbound, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_what_is_held_too_long_comes_again_first_and_in_order() {
    held_too_long_on(Release::Usual).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_what_is_held_too_long_comes_again_on_a_newer_rabbitmq_too() {
    if let Some(release) = Release::newer() {
        held_too_long_on(release).await;
    }
}

/// One worker holds a message for too long, and so does the worker that gets it next. With RabbitMQ's own clients, the
/// queue then delivers no more messages from 4.3.0 to 4.3.6:
/// <https://github.com/rabbitmq/rabbitmq-server/issues/17317>.
async fn held_too_long_by_two_on(release: Release) {
    let server = server(release).await;
    shorten_deadlines(&server).await;
    let brokers = [broker(&server).await, broker(&server).await];
    let text = |number| Outgoing::new(Destination::Work(Stage::Inbound), &text_from(1, number, "hi"));
    brokers[0].publish(&[text(0), text(1), text(2)]).await.unwrap();
    let mut workers = brokers.each_ref().map(|broker| broker.subscribe(Stage::Inbound, 2));
    let mut held = Vec::new();
    let mut has_held = [false, false];
    let started = Instant::now();
    let either = async |workers: &mut [Box<dyn Subscription>; 2]| {
        let [one, other] = workers;
        tokio::select! {
            came = next(one) => (0, came),
            came = next(other) => (1, came),
        }
    };
    while has_held != [true, true] {
        assert!(started.elapsed() < IN_TIME, "only one of the workers is handed messages: {has_held:?}");
        let (worker, (number, delivery)) = either(&mut workers).await;
        has_held[worker] |= number == 0;
        held.push(delivery);
    }
    println!("on {release:?} both held it after {:?}", started.elapsed());
    // The last delivery may still be ours. If it is held for too long, it comes again, too.
    let mut settled = 0;
    while settled < 3 {
        let (_, (number, delivery)) = either(&mut workers).await;
        if held.iter().rev().take(2).all(|held| !held.is_ours()) && number == settled {
            delivery.settle(&[]).await.unwrap();
            settled += 1;
        } else {
            held.push(delivery);
        }
    }
    println!("on {release:?} all was handled after {:?}", started.elapsed());
    for worker in workers {
        worker.close().await;
    }
    assert_eq!(brokers[0].depths().await.unwrap().inbound, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_two_workers_that_both_held_too_long_go_on() {
    held_too_long_by_two_on(Release::Usual).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_two_workers_that_both_held_too_long_go_on_with_a_newer_rabbitmq_too() {
    if let Some(release) = Release::newer() {
        held_too_long_by_two_on(release).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_broker_that_hangs() {
    let server = server(Release::Usual).await;
    let broker = broker(&server).await;
    let text = |number| Outgoing::new(Destination::Work(Stage::Inbound), &text_from(1, number, "hi"));
    broker.publish(&[text(0)]).await.unwrap();
    // The connection is up once a message has come over it.
    let mut first = broker.subscribe(Stage::Inbound, 1);
    let _held = next(&mut first).await;
    blocking(&server, RabbitMqServer::freeze).await;
    let second = broker.subscribe(Stage::Outbound, 1);
    tokio::task::yield_now().await;
    let started = Instant::now();
    second.close().await;
    assert!(started.elapsed() < Duration::from_secs(1), "setting up held a stop up for {:?}", started.elapsed());
    first.close().await;
    assert!(started.elapsed() < Duration::from_secs(7), "a stop took {:?}", started.elapsed());
    blocking(&server, RabbitMqServer::thaw).await;
}
