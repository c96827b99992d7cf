//! A new number of partitions takes effect only when no process uses the old one and the old queues are empty. Until
//! then a process with the new number touches no queue, says why, and takes over by itself afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its figures are for people")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::rabbitmq::RabbitMq;
use broker::{Broker, Destination, Outgoing, Stage, Subscription, Topology};
use message::failure::FailureKind;
use message::{Body, Envelope};
use tests::logs::log_if_asked;
use tests::samples::text_from;
use tests::servers::{RabbitMqServer, Release};
use tokio::time::{Instant, sleep, timeout};

const CUSTOMERS: u16 = 20;
/// The longest wait for a change. A change needs 3 s without any use of the old number, and longer on a busy machine.
const CHANGES_WITHIN: Duration = Duration::from_secs(60);

async fn server(release: Release) -> Arc<RabbitMqServer> {
    log_if_asked();
    let start = move || RabbitMqServer::start_release(release);
    Arc::new(tokio::task::spawn_blocking(start).await.unwrap().unwrap())
}

fn broker(server: &RabbitMqServer, partitions: u16) -> RabbitMq {
    RabbitMq::new(vec![server.url().into()], Topology::new("resize", partitions))
}

/// Returns once `broker` may publish.
async fn is_up(broker: &RabbitMq) {
    let up = async {
        while broker.check().await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    if timeout(CHANGES_WITHIN, up).await.is_err() {
        panic!("{:?}", broker.check().await);
    }
}

/// Returns once `broker` is refused with a reason that contains `why`.
async fn is_refused(broker: &RabbitMq, why: &str) {
    let mut last = String::new();
    let refused = async {
        while !last.contains(why) {
            let failure = broker.check().await.expect_err("it may not publish");
            last = format!("{}: {failure}", failure.kind.as_str());
        }
    };
    let in_time = timeout(CHANGES_WITHIN, refused).await.is_ok();
    assert!(in_time && last.starts_with("misconfigured"), "not {why:?} but {last:?}");
}

async fn publish(broker: &RabbitMq, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let text = |customer| {
            let envelope = text_from(customer, number, &number.to_string());
            Outgoing::new(Destination::Work(Stage::Inbound), &envelope)
        };
        broker.publish(&(0..CUSTOMERS).map(text).collect::<Vec<_>>()).await.unwrap();
    }
}

/// The numbers of the texts that came, by conversation.
#[derive(Default)]
struct Arrived(BTreeMap<String, Vec<u32>>);

impl Arrived {
    async fn take(&mut self, subscription: &mut Box<dyn Subscription>, count: usize) {
        for _ in 0..count {
            let delivery = timeout(CHANGES_WITHIN, subscription.next()).await.expect("it comes");
            let envelope = Envelope::decode(&delivery.payload).unwrap();
            let Body::Inbound(inbound) = &envelope.body else { panic!("not a text") };
            let number = inbound.text.expose().parse().unwrap();
            self.0.entry(envelope.key().to_hex()).or_default().push(number);
            delivery.settle(&[]).await.unwrap();
        }
    }

    /// Asserts that all 12 texts of each conversation came once and in order. Only customer 1 has number 6.
    fn in_order(self) {
        for (key, numbers) in self.0 {
            let is_parked = key == text_from(1, 0, "").key().to_hex();
            let expected: Vec<u32> = (0..12).filter(|number| *number != 6 || is_parked).collect();
            assert_eq!(numbers, expected, "conversation {key}");
        }
    }
}

/// Messages in the old partitions and parked messages keep `eight` waiting until processes with the old number have
/// handled them.
async fn drained_by_the_old_number(server: &RabbitMqServer, eight: &RabbitMq, arrived: &mut Arrived) {
    // No process with the old number is left, but its messages are.
    is_refused(eight, "inbound").await;
    let four = broker(server, 4);
    is_up(&four).await;
    let mut subscription = four.subscribe(Stage::Inbound, 4);
    arrived.take(&mut subscription, usize::from(CUSTOMERS) * 7 / 2).await;
    // A parked message returns to its old partition.
    let parked = text_from(1, 6, "6");
    let delayed = Destination::Delayed(Stage::Inbound, Duration::from_secs(30));
    four.publish(&[Outgoing::new(delayed, &parked)]).await.unwrap();
    subscription.close().await;
    drop(four);
    is_refused(eight, "1 parked").await;
    is_refused(eight, "1 inbound").await;
    let four = broker(server, 4);
    let mut subscription = four.subscribe(Stage::Inbound, 4);
    arrived.take(&mut subscription, 1).await;
    subscription.close().await;
    drop(four);
}

async fn g4_the_number_changes_on(release: Release) {
    let server = server(release).await;
    let mut arrived = Arrived::default();
    let all = usize::from(CUSTOMERS) * 5;

    let four = broker(&server, 4);
    is_up(&four).await;
    publish(&four, 0..5).await;
    let eight = broker(&server, 8);
    is_refused(&eight, "broker.partitions is 8 here but 4 is in force").await;
    is_refused(&eight, "connections still live with that").await;
    assert!(eight.publish(&[]).await.is_err() && eight.depths().await.is_err(), "it must not touch anything");
    let mut subscription = four.subscribe(Stage::Inbound, 4);
    arrived.take(&mut subscription, all / 2).await;
    publish(&four, 5..6).await;
    subscription.close().await;
    drop(four);

    drained_by_the_old_number(&server, &eight, &mut arrived).await;
    is_up(&eight).await;
    let four = broker(&server, 4);
    is_refused(&four, "broker.partitions is 4 here but 8 is in force").await;
    publish(&eight, 7..10).await;
    let mut subscription = eight.subscribe(Stage::Inbound, 4);
    arrived.take(&mut subscription, usize::from(CUSTOMERS) * 3).await;
    subscription.close().await;
    drop((eight, four));

    let three = broker(&server, 3);
    is_up(&three).await;
    publish(&three, 10..12).await;
    let mut subscription = three.subscribe(Stage::Inbound, 4);
    arrived.take(&mut subscription, usize::from(CUSTOMERS) * 2).await;
    subscription.close().await;

    arrived.in_order();
    assert_eq!(three.depths().await.unwrap().inbound, 0);
    let listed = tokio::task::spawn_blocking(move || server.ctl(&["list_queues", "--no-table-headers", "name"]));
    let listed = listed.await.unwrap().unwrap();
    let partitions = listed.lines().filter(|name| name.starts_with("resize.inbound.")).count();
    assert_eq!(partitions, 3, "{listed}");
    assert!(!listed.contains("lock"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_the_number_changes_when_nobody_lives_with_the_old_one_and_its_queues_are_empty() {
    g4_the_number_changes_on(Release::Usual).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_the_number_changes_on_a_newer_rabbitmq_too() {
    if let Some(release) = Release::newer() {
        g4_the_number_changes_on(release).await;
    }
}

/// Processes with three numbers come and go at once. While a process may publish, all others that may have the same
/// number.
async fn g4_two_numbers_never_rule_on(release: Release) {
    let server = server(release).await;
    let ruling: Arc<Mutex<Vec<u16>>> = Arc::default();
    let until = Instant::now() + Duration::from_secs(40);
    let mut processes = tokio::task::JoinSet::new();
    for process in 0..6_u64 {
        let (server, ruling) = (Arc::clone(&server), Arc::clone(&ruling));
        processes.spawn(async move {
            let mut times = 0;
            while Instant::now() < until {
                let number = [2, 3, 5][usize::try_from(process + times).unwrap() % 3];
                let broker = broker(&server, number);
                // Some processes give up waiting, so that the others get through at different moments.
                let patience = Duration::from_millis(6_000 + 700 * process);
                if timeout(patience, is_up(&broker)).await.is_ok() {
                    let others = {
                        let mut ruling = ruling.lock().unwrap();
                        ruling.push(number);
                        ruling.clone()
                    };
                    assert!(others.iter().all(|other| *other == number), "{others:?} rule at once");
                    let lives_until = Instant::now() + Duration::from_millis(900 * process);
                    let mut still = Ok(());
                    while still.is_ok() && Instant::now() < lives_until {
                        sleep(Duration::from_millis(20)).await;
                        still = broker.check().await;
                    }
                    let mut ruling = ruling.lock().unwrap();
                    let place = ruling.iter().position(|ruler| *ruler == number).unwrap();
                    ruling.remove(place);
                    assert!(still.is_ok(), "{number} was in force and is not: {still:?}");
                    times += 1;
                }
            }
            times
        });
    }
    let mut times = Vec::new();
    while let Some(process) = processes.join_next().await {
        times.push(process.unwrap());
    }
    assert!(times.iter().sum::<u64>() >= 6, "{times:?}");
    println!("times that each process had its number in force: {times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_two_numbers_are_never_in_force_at_once() {
    g4_two_numbers_never_rule_on(Release::best()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_another_number_is_misconfigured_not_away() {
    let server = server(Release::Usual).await;
    let (one, two) = (broker(&server, 1), broker(&server, 2));
    is_up(&one).await;
    is_refused(&two, "1 is in force").await;
    let started = Instant::now();
    assert_eq!(two.publish(&[]).await.unwrap_err().kind, FailureKind::Misconfigured);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

/// The channels that consume the inbound partitions.
async fn consuming_channels(server: &Arc<RabbitMqServer>) -> BTreeSet<String> {
    let server = Arc::clone(server);
    let ask = move || server.ctl(&["list_consumers", "--no-table-headers", "queue_name", "channel_pid"]);
    let listed = tokio::task::spawn_blocking(ask).await.unwrap().unwrap();
    let inbound = listed.lines().filter(|line| line.starts_with("resize.inbound."));
    inbound.filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect()
}

/// For example, an operator deletes the queue that records the number of partitions.
#[tokio::test(flavor = "multi_thread")]
async fn g4_who_loses_the_place_among_those_of_a_number_stops_consuming_and_takes_it_again() {
    let server = server(Release::Usual).await;
    let four = broker(&server, 4);
    is_up(&four).await;
    let mut subscription = four.subscribe(Stage::Inbound, 4);
    let mut arrived = Arrived::default();
    publish(&four, 0..1).await;
    arrived.take(&mut subscription, usize::from(CUSTOMERS)).await;
    let before = consuming_channels(&server).await;
    assert_eq!(before.len(), 4, "a channel for each partition: {before:?}");
    let deleting = Arc::clone(&server);
    tokio::task::spawn_blocking(move || deleting.ctl(&["delete_queue", "resize.partitions"])).await.unwrap().unwrap();
    let others = async {
        loop {
            let now = consuming_channels(&server).await;
            if !now.is_empty() && now.is_disjoint(&before) {
                return;
            }
        }
    };
    timeout(CHANGES_WITHIN, others).await.expect("it consumes on another channel");
    is_up(&four).await;
    publish(&four, 1..2).await;
    arrived.take(&mut subscription, usize::from(CUSTOMERS)).await;
    subscription.close().await;
}

/// An installation that never chose its number keeps it when a release changes the default, and follows a process that
/// chooses one.
#[tokio::test(flavor = "multi_thread")]
async fn g4_the_number_in_force_wins_over_another_default_and_not_over_a_chosen_one() {
    let server = server(Release::Usual).await;
    let four = broker(&server, 4);
    is_up(&four).await;
    let mut arrived = Arrived::default();
    let by_default = || {
        let topology = Topology::with_default_partitions("resize");
        (RabbitMq::new(vec![server.url().into()], topology.clone()), topology)
    };
    let (unchosen, topology) = by_default();
    // This is true from the first message on, which the broker gets before it has a connection.
    let first = Outgoing::new(Destination::Work(Stage::Inbound), &text_from(0, 0, "0"));
    while let Err(failure) = unchosen.publish(std::slice::from_ref(&first)).await {
        assert!(failure.kind.is_retryable(), "{failure}");
    }
    publish(&unchosen, 0..1).await;
    assert_eq!(topology.partitions(), 4);
    drop(four);
    let mut subscription = unchosen.subscribe(Stage::Inbound, 4);
    arrived.take(&mut subscription, usize::from(CUSTOMERS) + 1).await;
    subscription.close().await;
    let queues = async || {
        let server = Arc::clone(&server);
        let list = move || server.ctl(&["list_queues", "--no-table-headers", "name"]);
        let listed = tokio::task::spawn_blocking(list).await.unwrap().unwrap();
        listed.lines().filter(|name| name.starts_with("resize.inbound.")).count()
    };
    assert_eq!(queues().await, 4);

    // Another chosen number waits until the old one is not used any more, and is then followed.
    let eight = broker(&server, 8);
    is_refused(&eight, "broker.partitions is 8 here but 4 is in force").await;
    drop(unchosen);
    is_up(&eight).await;
    let (unchosen, topology) = by_default();
    let mut subscription = unchosen.subscribe(Stage::Inbound, 4);
    publish(&eight, 1..2).await;
    arrived.take(&mut subscription, usize::from(CUSTOMERS)).await;
    assert_eq!((topology.partitions(), queues().await), (8, 8));
    subscription.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_installation_has_as_many_partitions_as_is_the_default() {
    let server = server(Release::Usual).await;
    let broker = RabbitMq::new(vec![server.url().into()], Topology::with_default_partitions("resize"));
    is_up(&broker).await;
    drop(broker);
    is_up(&self::broker(&server, broker::DEFAULT_PARTITIONS)).await;
}
