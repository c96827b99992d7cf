//! A sick partition affects its own conversations and no others: its leader stopped, its leader suspended, or its queue
//! deleted, during traffic and with a restart of each role.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "its figures are for people")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::rabbitmq::RabbitMq;
use broker::{Broker, Destination, Outgoing, Stage, Topology};
use message::shutdown::Shutdown;
use message::{Body, Envelope};
use tests::logs::log_if_asked;
use tests::samples::text_from;
use tests::servers::{RabbitMqCluster, RabbitMqServer, Release};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use work::{Decision, Handler, Outcome, RunOptions, run};

const PARTITIONS: u16 = 8;
const CUSTOMERS: u16 = 40;
const SICK: u16 = 3;
const IN_TIME: Duration = Duration::from_secs(60);

/// The nodes with the sick queue.
enum Servers {
    One(RabbitMqServer),
    Three(RabbitMqCluster),
}

impl Servers {
    fn nodes(&self) -> &[RabbitMqServer] {
        match self {
            Self::One(node) => std::slice::from_ref(node),
            Self::Three(cluster) => cluster.nodes(),
        }
    }

    fn broker(&self) -> Arc<RabbitMq> {
        let urls = self.nodes().iter().map(|node| node.url().into()).collect();
        Arc::new(RabbitMq::new(urls, Topology::new("sick", PARTITIONS)))
    }
}

async fn blocking<T: Send + 'static>(
    servers: &Arc<Servers>,
    work: impl FnOnce(&RabbitMqServer) -> anyhow::Result<T> + Send + 'static,
) -> T {
    let servers = Arc::clone(servers);
    tokio::task::spawn_blocking(move || work(&servers.nodes()[0])).await.unwrap().unwrap()
}

/// The fault of a queue, and its cure.
#[derive(Debug, Clone, Copy)]
enum Sickness {
    Stopped,
    Suspended,
    Deleted,
}

impl Sickness {
    async fn strikes(self, servers: &Arc<Servers>, queue: &str) {
        let queue = queue.to_owned();
        blocking(servers, move |node| match self {
            Self::Stopped => node.stop_queue(&queue),
            Self::Suspended => node.suspend_queue(&queue),
            Self::Deleted => node.delete_queue(&queue),
        })
        .await;
    }

    async fn ends(self, servers: &Arc<Servers>, queue: &str) {
        let queue = queue.to_owned();
        blocking(servers, move |node| match self {
            Self::Stopped => node.restart_queue(&queue),
            Self::Suspended => node.resume_queue(&queue),
            Self::Deleted => Ok(()),
        })
        .await;
    }
}

/// A handler that records the numbers in each customer's texts.
struct Noting(watch::Sender<BTreeMap<String, Vec<u32>>>);

#[async_trait::async_trait]
impl Handler for Noting {
    async fn handle(&self, envelope: &mut Envelope) -> Decision {
        let Body::Inbound(inbound) = &envelope.body else { panic!("not a text") };
        let number = inbound.text.expose().parse().unwrap();
        self.0.send_modify(|seen| seen.entry(envelope.key().to_hex()).or_default().push(number));
        Decision::done(Outcome::Answered)
    }
}

struct Worker {
    broker: Arc<RabbitMq>,
    stop: Shutdown,
    running: JoinHandle<()>,
}

impl Worker {
    fn start(servers: &Servers, handler: &Arc<Noting>) -> Self {
        let (broker, stop) = (servers.broker(), Shutdown::new(Duration::from_secs(5)));
        let options = RunOptions { concurrency: 64, progress: Arc::default(), store: None, heartbeats: None };
        let running = tokio::spawn(run(broker.clone(), Stage::Inbound, handler.clone(), options, stop.clone()));
        Self { broker, stop, running }
    }

    async fn leave(self) {
        self.stop.start();
        timeout(IN_TIME, self.running).await.expect("it stops in time").unwrap();
    }

    async fn stands(&self, wanted: &str) {
        let stands = async {
            while !self.broker.standing(Stage::Inbound).is_some_and(|stands| stands.to_string().starts_with(wanted)) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(IN_TIME, stands).await.is_err() {
            panic!("{wanted:?} is wanted of {:?}", self.broker.standing(Stage::Inbound));
        }
    }
}

fn text(customer: u16, number: u32) -> Outgoing {
    Outgoing::new(Destination::Work(Stage::Inbound), &text_from(customer, number, &number.to_string()))
}

fn is_sick(customer: u16) -> bool {
    text(customer, 0).key.unwrap().partition(PARTITIONS) == SICK
}

/// Texts numbers in order, each until it is confirmed, as ingress does. It waits for a call for 2 s at most.
async fn texts(broker: Arc<RabbitMq>, customer: u16, stop: CancellationToken) -> u32 {
    let mut number = 0;
    while !stop.is_cancelled() {
        while !matches!(timeout(Duration::from_secs(2), broker.publish(&[text(customer, number)])).await, Ok(Ok(()))) {
            sleep(Duration::from_millis(50)).await;
        }
        number += 1;
        sleep(Duration::from_millis(50)).await;
    }
    number
}

struct Traffic {
    stop: CancellationToken,
    texting: Vec<JoinHandle<u32>>,
    seen: watch::Receiver<BTreeMap<String, Vec<u32>>>,
}

impl Traffic {
    /// Returns once every healthy conversation has had `more` texts handled from now on. The result is the time that
    /// took.
    async fn of_the_healthy_flows(&mut self, more: usize) -> Duration {
        let began = Instant::now();
        let healthy: Vec<_> = (0..CUSTOMERS)
            .filter(|customer| !is_sick(*customer))
            .map(|one| text(one, 0).key.unwrap().to_hex())
            .collect();
        let before = self.seen.borrow().clone();
        let count = |seen: &BTreeMap<String, Vec<u32>>, key: &String| seen.get(key).map_or(0, Vec::len);
        let reached = |seen: &BTreeMap<String, Vec<u32>>| {
            healthy.iter().all(|key| count(seen, key) >= count(&before, key) + more)
        };
        let Ok(reached) = timeout(IN_TIME, self.seen.wait_for(reached)).await.map(|reached| reached.map(drop)) else {
            let seen = self.seen.borrow();
            let counts: Vec<_> = healthy.iter().map(|key| count(&seen, key) - count(&before, key)).collect();
            panic!("{counts:?} texts of healthy partitions were handled, of {more} each");
        };
        reached.unwrap();
        began.elapsed()
    }

    /// Stops, and waits until all texts were handled, each conversation in order. Texts in a queue that is deleted are
    /// lost with it.
    async fn ends(mut self, sickness: Sickness) {
        self.stop.cancel();
        for (customer, texting) in (0..CUSTOMERS).zip(self.texting) {
            let count = timeout(IN_TIME, texting).await.expect("the last text is confirmed").unwrap();
            let key = text(customer, 0).key.unwrap().to_hex();
            let is_lossy = matches!(sickness, Sickness::Deleted) && is_sick(customer);
            let all = |seen: &BTreeMap<String, Vec<u32>>| {
                let is_there = |number| seen.get(&key).is_some_and(|numbers| numbers.contains(&number));
                if is_lossy { is_there(count - 1) } else { (0..count).all(is_there) }
            };
            if timeout(IN_TIME, self.seen.wait_for(all)).await.is_err() {
                panic!("of {count} texts of customer {customer} came {:?}", self.seen.borrow().get(&key));
            }
            let mut firsts = Vec::new();
            for number in &self.seen.borrow()[&key] {
                if !firsts.contains(number) {
                    firsts.push(*number);
                }
            }
            assert!(firsts.is_sorted(), "customer {customer}: {firsts:?}");
        }
    }
}

async fn start(release: Release, is_cluster: bool) -> Arc<Servers> {
    log_if_asked();
    let start = move || match is_cluster {
        true => RabbitMqCluster::start(release).map(Servers::Three),
        false => RabbitMqServer::start_release(release).map(Servers::One),
    };
    Arc::new(tokio::task::spawn_blocking(start).await.unwrap().unwrap())
}

/// Texts flow, a partition becomes sick, both roles are restarted, the partition heals.
async fn costs_no_other(servers: Arc<Servers>, sickness: Sickness) {
    let queue = format!("sick.inbound.{SICK}");
    let (note, seen) = watch::channel(BTreeMap::new());
    let (handler, stop) = (Arc::new(Noting(note)), CancellationToken::new());
    let worker = Worker::start(&servers, &handler);
    let publisher = servers.broker();
    let texting = |customer| tokio::spawn(texts(Arc::clone(&publisher), customer, stop.clone()));
    let mut traffic = Traffic { stop: stop.clone(), texting: (0..CUSTOMERS).map(texting).collect(), seen };
    assert!((0..CUSTOMERS).any(is_sick), "some conversation is to be struck");
    worker.stands("8 of 8 partitions").await;
    traffic.of_the_healthy_flows(5).await;

    sickness.strikes(&servers, &queue).await;
    println!("{sickness:?}: {:?} for the next 40", traffic.of_the_healthy_flows(40).await);
    if matches!(sickness, Sickness::Stopped | Sickness::Suspended) && servers.nodes().len() == 1 {
        worker.stands(&format!("7 of 8 partitions: {queue} ")).await;
        publisher.check().await.expect("the broker takes messages");
    }
    worker.leave().await;
    let worker = Worker::start(&servers, &handler);
    println!("{sickness:?}: {:?} after a restart", traffic.of_the_healthy_flows(40).await);
    if matches!(sickness, Sickness::Stopped) {
        worker.stands(&format!("7 of 8 partitions: {queue} ")).await;
        // The worker's connection is not closed again and again.
        let before = redelivered(&servers).await;
        traffic.of_the_healthy_flows(60).await;
        assert_eq!(redelivered(&servers).await, before, "connections of the consumer");
    }
    sickness.ends(&servers, &queue).await;
    let healed = Instant::now();
    worker.stands("8 of 8 partitions").await;
    println!("{sickness:?}: consumed again {:?} after it healed", healed.elapsed());
    traffic.ends(sickness).await;
    assert_eq!(publisher.depths().await.unwrap().dead, 0, "a sick partition makes no dead letter");
    worker.leave().await;
}

/// The process ids of the consumers' connections.
async fn redelivered(servers: &Arc<Servers>) -> Vec<String> {
    let listed =
        blocking(servers, |node| node.ctl(&["list_connections", "--no-table-headers", "pid", "client_properties"]));
    let listed = listed.await;
    let consumers = listed.lines().filter(|line| line.contains("switchboard consumer"));
    consumers.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_b1_one_partition_without_a_leader_costs_no_other() {
    costs_no_other(start(Release::Usual, false).await, Sickness::Stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_b1_one_partition_that_hangs_costs_no_other() {
    costs_no_other(start(Release::Usual, false).await, Sickness::Suspended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_b1_one_partition_that_is_deleted_costs_no_other() {
    costs_no_other(start(Release::Usual, false).await, Sickness::Deleted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_b1_one_sick_partition_of_a_newer_rabbitmq_costs_no_other() {
    let Some(release) = Release::newer() else { return };
    let servers = start(release, false).await;
    for sickness in [Sickness::Stopped, Sickness::Suspended, Sickness::Deleted] {
        costs_no_other(Arc::clone(&servers), sickness).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_b1_one_sick_partition_of_a_cluster_costs_no_other() {
    let servers = start(Release::best(), true).await;
    for sickness in [Sickness::Stopped, Sickness::Suspended, Sickness::Deleted] {
        costs_no_other(Arc::clone(&servers), sickness).await;
    }
}

async fn is_up(broker: &RabbitMq) {
    let up = async {
        while broker.check().await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(IN_TIME, up).await.expect("it comes up");
}

/// One process starts while the queue that records the number of partitions is sick, and one while the probe's queue
/// is.
async fn bookkeeping_is_sick(servers: Arc<Servers>) {
    is_up(&servers.broker()).await;
    for sickness in [Sickness::Stopped, Sickness::Suspended] {
        sickness.strikes(&servers, "sick.partitions").await;
        let broker = servers.broker();
        let mut subscription = broker.subscribe(Stage::Inbound, 1);
        is_up(&broker).await;
        broker.publish(&[text(0, 0)]).await.unwrap();
        let delivery = timeout(IN_TIME, subscription.next()).await.expect("texts come");
        delivery.settle(&[]).await.unwrap();
        sickness.ends(&servers, "sick.partitions").await;
        // A process with another number is told how many connections use this one.
        let urls = servers.nodes().iter().map(|node| node.url().into()).collect();
        let other = RabbitMq::new(urls, Topology::new("sick", PARTITIONS + 1));
        let have_places = async {
            while !other.check().await.is_err_and(|failure| failure.to_string().contains("2 connections still live")) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(IN_TIME, have_places).await.expect("both connections take their place once it is well");
        drop(other);
        subscription.close().await;
        drop((delivery, broker));
    }
    let broker = servers.broker();
    is_up(&broker).await;
    for sickness in [Sickness::Stopped, Sickness::Suspended] {
        sickness.strikes(&servers, "sick.probe").await;
        broker.publish(&[text(0, 1)]).await.unwrap();
        broker.check().await.expect("other messages speak for the broker");
        sickness.ends(&servers, "sick.probe").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_b12_a_sick_queue_of_our_own_bookkeeping_keeps_nothing_from_moving() {
    bookkeeping_is_sick(start(Release::Usual, false).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_b12_a_sick_queue_of_our_own_bookkeeping_on_a_newer_rabbitmq_keeps_nothing_from_moving() {
    let Some(release) = Release::newer() else { return };
    bookkeeping_is_sick(start(release, false).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b12_what_refuses_a_message_is_named() {
    let servers = start(Release::Usual, false).await;
    let of_two = Topology::new("sick", PARTITIONS).with_max_length(2);
    let broker = RabbitMq::new(vec![servers.nodes()[0].url().into()], of_two);
    is_up(&broker).await;
    let full = loop {
        if let Err(failure) = broker.publish(&[text(0, 0)]).await {
            break failure.to_string();
        }
    };
    assert!(full.contains("sick.inbound.") && full.contains("is full"), "{full}");
    let struck = (0..CUSTOMERS).find(|customer| is_sick(*customer)).unwrap();
    Sickness::Stopped.strikes(&servers, "sick.inbound.3").await;
    let no_leader = broker.publish(&[text(struck, 0)]).await.unwrap_err().to_string();
    assert!(no_leader.contains("sick.inbound.3 refuses messages: it has no leader"), "{no_leader}");
    Sickness::Stopped.ends(&servers, "sick.inbound.3").await;

    Sickness::Suspended.strikes(&servers, "sick.inbound.3").await;
    let given_up = timeout(Duration::from_secs(2), broker.publish(&[text(struck, 1)])).await;
    given_up.expect_err("it hangs");
    let hangs = timeout(Duration::from_secs(1), broker.publish(&[text(struck, 2)])).await.expect("it is known to hang");
    let hangs = hangs.unwrap_err().to_string();
    assert!(hangs.contains("sick.inbound.3 has not confirmed a message"), "{hangs}");
    Sickness::Suspended.ends(&servers, "sick.inbound.3").await;
    let healed = Instant::now();
    while broker.publish(&[text(struck, 3)]).await.is_err_and(|failure| failure.to_string().contains("confirmed")) {
        assert!(healed.elapsed() < Duration::from_secs(5), "it is known to be well once what it owed is confirmed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b1_queues_that_an_earlier_release_declared_are_used_as_they_are() {
    let servers = start(Release::Usual, false).await;
    for queue in ["sick.inbound.0", "sick.inbound.5", "sick.outbound.1"] {
        let key = queue.split('.').nth(1).unwrap();
        let declare = format!(
            r#"rabbit_amqqueue:declare(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>), true, false, [
                {{<<"x-queue-type">>, longstr, <<"quorum">>}}, {{<<"x-overflow">>, longstr, <<"reject-publish">>}},
                {{<<"x-max-length">>, signedint, 1000000}}, {{<<"x-delivery-limit">>, signedint, 1000}},
                {{<<"x-dead-letter-exchange">>, longstr, <<"sick.dead">>}},
                {{<<"x-dead-letter-strategy">>, longstr, <<"at-least-once">>}},
                {{<<"x-dead-letter-routing-key">>, longstr, <<"{key}">>}},
                {{<<"x-single-active-consumer">>, bool, true}},
                {{<<"x-consumer-disconnected-timeout">>, signedint, 3000}}], none, <<"test">>)."#
        );
        blocking(&servers, move |node| node.ctl(&["eval", &declare])).await;
    }
    let broker = servers.broker();
    let mut subscription = broker.subscribe(Stage::Inbound, 1);
    is_up(&broker).await;
    let texts: Vec<_> = (0..CUSTOMERS).map(|customer| text(customer, 0)).collect();
    broker.publish(&texts).await.unwrap();
    for _ in 0..CUSTOMERS {
        let delivery = timeout(IN_TIME, subscription.next()).await.expect("each comes");
        delivery.settle(&[]).await.unwrap();
    }
    let limits = blocking(&servers, |node| node.ctl(&["list_queues", "--no-table-headers", "name", "arguments"])).await;
    let limited = limits.lines().filter(|line| line.contains(r#""x-delivery-limit",1000}"#)).count();
    assert_eq!(limited, 3, "{limits}");
}
