//! Heartbeats go through every partition beside the messages. They disturb no messages, and reveal a partition that
//! delivers nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use broker::{Broker, Depths, Destination, Outgoing, Stage};
use embedded::EmbeddedBroker;
use embedded::{Database, EmbeddedStore};
use message::clock::Clock;
use message::shutdown::Shutdown;
use message::{Body, Envelope};
use tests::house::{Backend, Blueprint, House};
use tests::samples::text_from;
use tests::servers::{RabbitMqServer, shared_redis_url};
use tokio::time::{Instant, sleep};
use work::{Decision, Handler, Outcome, Progress, Rhythm, RunOptions};

const DEADLINE: Duration = Duration::from_secs(60);
const QUICK: Rhythm = Rhythm { every: Duration::from_millis(200), first_after: Duration::ZERO };

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let reached = async {
        while !is_so().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, reached).await.is_ok(), "never: {what}");
}

/// A handler that records the texts it gets.
#[derive(Default)]
struct Listener(Mutex<Vec<String>>);

#[async_trait]
impl Handler for Listener {
    async fn handle(&self, envelope: &mut Envelope) -> Decision {
        let Body::Inbound(inbound) = &envelope.body else { panic!("not a text") };
        self.0.lock().unwrap().push(inbound.text.expose().to_owned());
        Decision::done(Outcome::Answered)
    }
}

/// One of two processes on the same embedded file. Only one of them gets messages at a time.
struct Process {
    progress: Arc<Progress>,
    shutdown: Shutdown,
}

impl Process {
    fn start(broker: &Arc<EmbeddedBroker>, database: &Database, handler: &Arc<Listener>, rhythm: Rhythm) -> Self {
        let (progress, shutdown) = (Arc::<Progress>::default(), Shutdown::new(DEADLINE));
        let store = Arc::new(EmbeddedStore::new(database.clone(), Clock::system()));
        let options =
            RunOptions { concurrency: 8, progress: progress.clone(), store: Some(store), heartbeats: Some(rhythm) };
        let (broker, handler) = (Arc::clone(broker) as Arc<dyn Broker>, Arc::clone(handler) as Arc<dyn Handler>);
        tokio::spawn(work::run(broker, Stage::Inbound, handler, options, shutdown.clone()));
        Self { progress, shutdown }
    }

    /// The age of the heartbeat in the only partition.
    fn age(&self) -> Option<Duration> {
        self.progress.pulse().map(|pulse| pulse.ages(Instant::now())[0])
    }
}

#[tokio::test]
async fn b12_a_heartbeat_is_seen_by_no_handler_and_a_process_that_stands_by_knows_its_age() {
    let database = Database::in_memory().unwrap();
    let broker = Arc::new(EmbeddedBroker::new(database.clone(), Clock::system()));
    let handler = Arc::<Listener>::default();
    let busy = Process::start(&broker, &database, &handler, QUICK);
    until("the first heartbeat came", async || busy.age().is_some()).await;
    let standing_by = Process::start(&broker, &database, &handler, QUICK);
    let envelope = text_from(1, 1, "hello");
    broker.publish(&[Outgoing::new(Destination::Work(Stage::Inbound), &envelope)]).await.unwrap();
    let started = Instant::now();
    // Ten rounds. Each of the two processes begins rounds, and neither sees a round without its heartbeat.
    while started.elapsed() < QUICK.every * 10 {
        sleep(Duration::from_millis(20)).await;
        assert_eq!(busy.progress.held().oldest.is_some(), busy.progress.held().messages > 0);
    }
    until("both know of a heartbeat", async || {
        [&busy, &standing_by].iter().all(|process| process.age().is_some_and(|age| age < QUICK.every * 3))
    })
    .await;
    assert_eq!(*handler.0.lock().unwrap(), ["hello"], "and nothing else");
    [&busy, &standing_by].iter().for_each(|process| process.shutdown.start());
    until("nothing is held", async || busy.progress.held().messages == 0).await;
}

#[tokio::test]
async fn b12_a_process_begins_no_first_round_while_an_older_release_may_run_beside_it() {
    let database = Database::in_memory().unwrap();
    let broker = Arc::new(EmbeddedBroker::new(database.clone(), Clock::system()));
    let handler = Arc::<Listener>::default();
    let late = Process::start(&broker, &database, &handler, Rhythm { first_after: DEADLINE * 10, ..QUICK });
    sleep(QUICK.every * 3).await;
    assert_eq!(late.age(), None);
    // Once an installation has heartbeats, a new process takes part at once.
    let first = Process::start(&broker, &database, &handler, QUICK);
    until("both know of a heartbeat", async || late.age().is_some() && first.age().is_some()).await;
    first.shutdown.start();
    until("the other goes on", async || late.age().is_some_and(|age| age < QUICK.every)).await;
}

#[tokio::test]
async fn b12_a_stage_that_takes_nothing_collects_few_heartbeats() {
    let database = Database::in_memory().unwrap();
    let broker = Arc::new(EmbeddedBroker::new(database.clone(), Clock::system()));
    // The holder has its turn at the queue and takes no messages out.
    let mut holder = broker.subscribe(Stage::Inbound, 1);
    broker.publish(&[Outgoing::new(Destination::Work(Stage::Inbound), &text_from(1, 1, "held"))]).await.unwrap();
    let held = holder.next().await;
    let standing_by = Process::start(&broker, &database, &Arc::default(), QUICK);
    until("the age rises", async || standing_by.age().is_some_and(|age| age > QUICK.every * 14)).await;
    let silent = standing_by.progress.pulse().unwrap().silent(Instant::now(), QUICK.every * 10);
    assert_eq!(silent.len(), 1, "readiness tells it");
    let Depths { inbound, .. } = broker.depths().await.unwrap();
    assert!((2..=7).contains(&inbound), "{inbound} messages after 14 rounds");
    drop(held);
    holder.close().await;
    until("the age falls", async || standing_by.age().is_some_and(|age| age < QUICK.every * 3)).await;
    standing_by.shutdown.start();
}

/// The ages of the heartbeats by stage and partition.
async fn ages(house: &House) -> BTreeMap<(String, u16), f64> {
    let (_, metrics) = house.ask("/metrics").await;
    let lines = metrics.lines().filter_map(|line| line.strip_prefix("switchboard_heartbeat_age_seconds{stage=\""));
    lines
        .map(|line| {
            let (stage, rest) = line.split_once("\",partition=\"").unwrap();
            let (partition, age) = rest.split_once("\"} ").unwrap();
            ((stage.to_owned(), partition.parse().unwrap()), age.parse().unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b12_the_age_of_a_hanging_partitions_heartbeat_rises_and_falls_when_it_goes_on() {
    let server = tokio::task::spawn_blocking(RabbitMqServer::start).await.unwrap().unwrap();
    let server = Arc::new(server);
    let backend = Backend::Servers { amqp: vec![server.url().to_owned()], redis: shared_redis_url().to_owned() };
    let house = House::open(Blueprint { heartbeats: Some(QUICK), ..Blueprint::new(backend) }).await;
    let (fresh, sick) = (2.0, 8.0);
    until("all partitions of both stages have a heartbeat", async || {
        let ages = ages(&house).await;
        ages.len() == 8 && ages.values().all(|age| *age < fresh)
    })
    .await;
    let on_queue = async |work: fn(&RabbitMqServer, &str) -> anyhow::Result<()>| {
        let (server, queue) = (Arc::clone(&server), house.queue(Stage::Inbound, 2));
        tokio::task::spawn_blocking(move || work(&server, &queue)).await.unwrap().unwrap();
    };
    on_queue(RabbitMqServer::suspend_queue).await;
    let of_sick = ("inbound".to_owned(), 2);
    until("the sick one's rises", async || ages(&house).await[&of_sick] > sick).await;
    until("the others' do not", async || {
        ages(&house).await.iter().all(|(partition, age)| *partition == of_sick || *age < fresh)
    })
    .await;
    assert!(ages(&house).await[&of_sick] > sick, "it is still sick");
    on_queue(RabbitMqServer::resume_queue).await;
    until("it falls again", async || ages(&house).await[&of_sick] < fresh).await;
    house.text("+13035550123", "hello").await;
    house.replies("+13035550123", 1).await;
}
