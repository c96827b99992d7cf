//! The RabbitMQ broker against a node that closes connections, restarts, is killed, loses a queue or blocks publishers.
//! Traffic resumes by itself, no confirmed message is lost, and the messages of each conversation arrive in order.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::rabbitmq::RabbitMq;
use broker::{Broker, Delivery, Destination, Outgoing, Stage, Topology};
use message::failure::FailureKind;
use message::shutdown::Shutdown;
use message::{Body, ConversationKey, Envelope};
use tests::logs::log_if_asked;
use tests::samples::text_from;
use tests::servers::RabbitMqServer;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use work::{Decision, Handler, Outcome, RunOptions, run};

const CONVERSATIONS: u64 = 6;
/// Longer than any call may take; the deadline of a call is 10 s.
const NO_CALL_TAKES: Duration = Duration::from_secs(12);
const COMES_BACK_WITHIN: Duration = Duration::from_secs(60);

fn broker_of(server: &RabbitMqServer) -> Arc<RabbitMq> {
    Arc::new(RabbitMq::new(vec![server.url().into()], Topology::new("faults", 4)))
}

fn message(conversation: u64, number: u64) -> Outgoing {
    Outgoing {
        destination: Destination::Work(Stage::Inbound),
        id: None,
        key: ConversationKey::from_hex(&format!("{conversation:016x}{:016x}", 0)),
        trace: String::new(),
        payload: format!("{conversation} {number}").into(),
    }
}

fn read(delivery: &Delivery) -> (u64, u64) {
    let text = std::str::from_utf8(&delivery.payload).unwrap();
    let (conversation, number) = text.split_once(' ').unwrap();
    (conversation.parse().unwrap(), number.parse().unwrap())
}

/// Publishes the numbers of every conversation in order, each until it is confirmed, and takes them off again.
struct Traffic {
    stop: CancellationToken,
    publishers: Vec<JoinHandle<u64>>,
    consumer: JoinHandle<BTreeMap<u64, Vec<u64>>>,
    /// The number of confirmed messages, and the number of handled ones.
    confirmed: watch::Receiver<u64>,
    handled: watch::Receiver<u64>,
    done: CancellationToken,
}

impl Traffic {
    fn start(broker: &Arc<RabbitMq>) -> Self {
        let (stop, done) = (CancellationToken::new(), CancellationToken::new());
        let (count_confirmed, confirmed) = watch::channel(0);
        let (count_handled, handled) = watch::channel(0);
        let publisher = |conversation| {
            tokio::spawn(publish_in_order(Arc::clone(broker), conversation, stop.clone(), count_confirmed.clone()))
        };
        let publishers = (0..CONVERSATIONS).map(publisher).collect();
        let consumer = tokio::spawn(consume(Arc::clone(broker), done.clone(), count_handled));
        Self { stop, publishers, consumer, confirmed, handled, done }
    }

    /// Returns once `more` messages have been confirmed and handled from now on.
    async fn flows(&mut self, more: u64) {
        for (what, count) in [("confirmed", &mut self.confirmed), ("handled", &mut self.handled)] {
            let before = *count.borrow();
            let reached = async { count.wait_for(|count| *count >= before + more).await.map(drop) };
            let Ok(reached) = timeout(COMES_BACK_WITHIN, reached).await else {
                panic!("{what}: {before} before, {} now", *count.borrow())
            };
            reached.unwrap();
        }
    }

    /// Stops publishing, waits for the last message of each conversation, and checks that all came in order.
    async fn all_arrived_in_order(self) {
        self.stop.cancel();
        let mut sent = BTreeMap::new();
        for (conversation, publisher) in (0..).zip(self.publishers) {
            sent.insert(conversation, publisher.await.unwrap());
        }
        let total: u64 = sent.values().sum();
        let mut handled = self.handled;
        timeout(COMES_BACK_WITHIN, handled.wait_for(|count| *count >= total)).await.expect("all arrive").unwrap();
        self.done.cancel();
        let arrived = self.consumer.await.unwrap();
        for (conversation, count) in sent {
            let expected: Vec<_> = (0..count).collect();
            assert_eq!(first_seen(&arrived[&conversation]), expected, "conversation {conversation}");
        }
    }
}

/// The numbers in the order in which each came first. A repetition is the ledger's business.
fn first_seen(numbers: &[u64]) -> Vec<u64> {
    let mut seen = Vec::new();
    for number in numbers {
        if !seen.contains(number) {
            seen.push(*number);
        }
    }
    seen
}

async fn publish_in_order(
    broker: Arc<RabbitMq>,
    conversation: u64,
    stop: CancellationToken,
    confirmed: watch::Sender<u64>,
) -> u64 {
    let mut number = 0;
    while !stop.is_cancelled() {
        let published = timeout(NO_CALL_TAKES, broker.publish(&[message(conversation, number)])).await;
        match published.expect("publishing never hangs") {
            Ok(()) => {
                number += 1;
                confirmed.send_modify(|count| *count += 1);
            }
            Err(failure) => assert!(failure.kind.is_retryable(), "{failure}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    number
}

async fn consume(
    broker: Arc<RabbitMq>,
    done: CancellationToken,
    handled: watch::Sender<u64>,
) -> BTreeMap<u64, Vec<u64>> {
    let mut subscription = broker.subscribe(Stage::Inbound, 8);
    let mut arrived: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut distinct = 0;
    while let Some(delivery) = done.run_until_cancelled(subscription.next()).await {
        let (conversation, number) = read(&delivery);
        let numbers = arrived.entry(conversation).or_default();
        distinct += u64::from(!numbers.contains(&number));
        numbers.push(number);
        delivery.settle(&[]).await.unwrap();
        handled.send_replace(distinct);
    }
    subscription.close().await;
    arrived
}

/// Publishes `message` until it is confirmed.
async fn published(broker: &RabbitMq, message: Outgoing) {
    let deadline = Instant::now() + COMES_BACK_WITHIN;
    while let Err(failure) = broker.publish(std::slice::from_ref(&message)).await {
        assert!(failure.kind.is_retryable() && Instant::now() < deadline, "{failure}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn is_up(broker: &RabbitMq) {
    let deadline = Instant::now() + COMES_BACK_WITHIN;
    while let Err(failure) = broker.check().await {
        assert!(Instant::now() < deadline, "{failure}");
    }
}

async fn blocking<T: Send + 'static>(
    server: &Arc<RabbitMqServer>,
    work: impl FnOnce(&RabbitMqServer) -> anyhow::Result<T> + Send + 'static,
) -> T {
    let server = Arc::clone(server);
    tokio::task::spawn_blocking(move || work(&server)).await.unwrap().unwrap()
}

async fn server() -> Arc<RabbitMqServer> {
    log_if_asked();
    Arc::new(tokio::task::spawn_blocking(RabbitMqServer::start).await.unwrap().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_outlives_closed_connections_restarts_and_kill_9() {
    let server = server().await;
    let broker = broker_of(&server);
    let mut traffic = Traffic::start(&broker);
    traffic.flows(200).await;

    blocking(&server, RabbitMqServer::close_all_connections).await;
    traffic.flows(200).await;

    blocking(&server, RabbitMqServer::stop).await;
    blocking(&server, RabbitMqServer::start_again).await;
    traffic.flows(200).await;

    blocking(&server, RabbitMqServer::kill).await;
    blocking(&server, RabbitMqServer::start_again).await;
    traffic.flows(200).await;

    // The channels die, while their connections stay open.
    let kill_channels = "[exit(Channel, kill) || Channel <- rabbit_channel:list()].";
    blocking(&server, move |server| server.ctl(&["eval", kill_channels])).await;
    traffic.flows(200).await;
    traffic.all_arrived_in_order().await;
    assert_eq!(broker.depths().await.unwrap().inbound, 0);
}

/// A handler that holds the text `holds` until it is released, and records the texts it saw.
struct Holding {
    seen: watch::Sender<Vec<String>>,
    may_go_on: CancellationToken,
}

#[async_trait]
impl Handler for Holding {
    async fn handle(&self, envelope: &mut Envelope) -> Decision {
        let Body::Inbound(inbound) = &envelope.body else { panic!("not a text") };
        let text = inbound.text.expose().to_owned();
        self.seen.send_modify(|seen| seen.push(text.clone()));
        if text == "holds" {
            self.may_go_on.cancelled().await;
        }
        Decision::done(Outcome::Answered)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_a_lane_and_was_taken_back_is_not_handled_beside_whoever_has_it_now() {
    let server = server().await;
    let broker = broker_of(&server);
    let (seen, mut sees) = watch::channel(Vec::new());
    let handler = Arc::new(Holding { seen, may_go_on: CancellationToken::new() });
    let shutdown = Shutdown::new(Duration::ZERO);
    let options = RunOptions { concurrency: 64, progress: Arc::default(), store: None, heartbeats: None };
    let running = tokio::spawn(run(broker.clone(), Stage::Inbound, handler.clone(), options, shutdown.clone()));
    let mut saw = async |text: &'static str| {
        let seen = sees.wait_for(|seen: &Vec<String>| seen.iter().any(|one| one == text));
        timeout(COMES_BACK_WITHIN, seen).await.expect(text).unwrap();
    };
    let text =
        |customer, number, text| Outgoing::new(Destination::Work(Stage::Inbound), &text_from(customer, number, text));
    // Customers 1 and 3 share a partition.
    for one in [text(1, 1, "holds"), text(1, 2, "waits"), text(3, 1, "was handed out after it")] {
        published(&broker, one).await;
    }
    saw("was handed out after it").await;
    blocking(&server, RabbitMqServer::close_all_connections).await;
    published(&broker, text(3, 2, "comes back after it")).await;
    saw("comes back after it").await;
    handler.may_go_on.cancel();
    published(&broker, text(1, 3, "is last")).await;
    saw("is last").await;
    shutdown.start();
    running.await.unwrap();
    let waits = handler.seen.borrow().iter().filter(|text| *text == "waits").count();
    assert_eq!(waits, 1, "{:?}", handler.seen.borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_declared_and_consumed_again() {
    let server = server().await;
    let broker = broker_of(&server);
    let mut subscription = broker.subscribe(Stage::Inbound, 1);
    // Conversation 1 is in partition 1 of 4.
    published(&broker, message(1, 0)).await;
    let first = timeout(COMES_BACK_WITHIN, subscription.next()).await.unwrap();
    assert_eq!(read(&first), (1, 0));
    first.settle(&[]).await.unwrap();

    blocking(&server, |server| server.ctl(&["delete_queue", "faults.inbound.1"])).await;
    published(&broker, message(1, 1)).await;
    let second = timeout(COMES_BACK_WITHIN, subscription.next()).await.unwrap();
    assert_eq!(read(&second), (1, 1));
    second.settle(&[]).await.unwrap();

    // All connections close with the last handle. A delivery is a handle, too, because settling it may publish.
    drop((first, second));
    drop(subscription);
    drop(broker);
    let deadline = Instant::now() + COMES_BACK_WITHIN;
    while !blocking(&server, |server| server.ctl(&["list_connections", "--no-table-headers", "pid"])).await.is_empty() {
        assert!(Instant::now() < deadline, "a connection stays open");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_given_back_at_thirty_deploys_keeps_its_place_and_is_no_dead_letter() {
    let server = server().await;
    let broker = broker_of(&server);
    published(&broker, message(1, 0)).await;
    published(&broker, message(1, 1)).await;
    for redelivered in 0..30 {
        let mut subscription = broker.subscribe(Stage::Inbound, 1);
        let delivery = timeout(COMES_BACK_WITHIN, subscription.next()).await.unwrap();
        assert_eq!((read(&delivery), delivery.redeliveries), ((1, 0), redelivered));
        subscription.close().await;
    }
    let mut subscription = broker.subscribe(Stage::Inbound, 1);
    for number in 0..2 {
        let next = timeout(COMES_BACK_WITHIN, subscription.next()).await.unwrap();
        assert_eq!(read(&next), (1, number));
        next.settle(&[]).await.unwrap();
    }
    assert_eq!(broker.depths().await.unwrap().dead, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_broker_is_away_calls_fail_soon_and_say_why() {
    let server = server().await;
    blocking(&server, RabbitMqServer::stop).await;
    let broker = broker_of(&server);
    let started = Instant::now();
    let failure = broker.publish(&[message(1, 0)]).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Transient);
    assert!(failure.to_string().contains("cannot connect to 127.0.0.1"), "{failure}");
    assert!(!failure.to_string().contains("guest"), "{failure}");
    assert!(broker.check().await.is_err() && broker.depths().await.is_err());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());

    let mut subscription = broker.subscribe(Stage::Inbound, 1);
    blocking(&server, RabbitMqServer::start_again).await;
    published(&broker, message(1, 0)).await;
    let delivery = timeout(COMES_BACK_WITHIN, subscription.next()).await.unwrap();
    assert_eq!(read(&delivery), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_short_of_memory_is_not_ready_and_takes_messages_again_afterwards() {
    let server = server().await;
    let broker = broker_of(&server);
    is_up(&broker).await;
    blocking(&server, |server| server.set_memory_alarm(true)).await;
    // On a blocked connection the first publish waits for its deadline. By then RabbitMQ has reported the block.
    let first = timeout(NO_CALL_TAKES, broker.publish(&[message(1, 0)])).await.expect("publishing never hangs");
    assert!(first.unwrap_err().kind.is_retryable());
    let started = Instant::now();
    let failure = broker.check().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Transient, "{failure}");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());

    blocking(&server, |server| server.set_memory_alarm(false)).await;
    published(&broker, message(1, 1)).await;
    broker.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_declared_otherwise_is_named_with_the_way_out() {
    let server = server().await;
    let broker = broker_of(&server);
    is_up(&broker).await;
    drop(broker);
    blocking(&server, |server| server.ctl(&["delete_queue", "faults.outbound.2"])).await;
    let declare = r#"rabbit_amqqueue:declare(rabbit_misc:r(<<"/">>, queue, <<"faults.outbound.2">>), true, false, [], none, <<"test">>)."#;
    blocking(&server, move |server| server.ctl(&["eval", declare])).await;

    let broker = broker_of(&server);
    let deadline = Instant::now() + COMES_BACK_WITHIN;
    let failure = loop {
        let failure = broker.check().await.unwrap_err();
        if failure.kind == FailureKind::Misconfigured {
            break failure.to_string();
        }
        assert!(Instant::now() < deadline, "{failure}");
    };
    assert!(failure.contains("faults.outbound.2") && failure.contains("delete_queue"), "{failure}");
}
