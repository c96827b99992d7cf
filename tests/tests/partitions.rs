//! Workers join, leave and die under traffic. Each conversation is held by one worker at a time and stays in order, no
//! text is lost, and from RabbitMQ 4.0 on every worker has its share.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its figures are for people")]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use broker::rabbitmq::RabbitMq;
use broker::{Broker, Destination, Outgoing, Stage, Topology};
use message::shutdown::Shutdown;
use message::{Body, ConversationKey, Envelope};
use tests::samples::text_from;
use tests::servers::{RabbitMqServer, Release};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use work::{Decision, Handler, Outcome, RunOptions, run};

const CUSTOMERS: u16 = 200;
const PARTITIONS: u16 = 32;
/// The length of a turn.
const TURN: Duration = Duration::from_millis(3);
/// The least share of each worker, as a fraction: less than a fifth of an even share among four.
const LEAST_SHARE: f64 = 0.05;

/// The events of all workers.
#[derive(Default)]
struct Watched {
    in_hand: Mutex<HashMap<ConversationKey, usize>>,
    killed: Mutex<Option<usize>>,
    handled: Mutex<Vec<Handled>>,
}

struct Handled {
    worker: usize,
    key: ConversationKey,
    number: u32,
    at: Instant,
}

impl Watched {
    /// The fraction of the texts handled since `from`, for each worker.
    fn shares(&self, from: Instant) -> BTreeMap<usize, f64> {
        let handled = self.handled.lock().unwrap();
        let mut counts = BTreeMap::new();
        for one in handled.iter().filter(|one| one.at >= from) {
            *counts.entry(one.worker).or_insert(0.0) += 1.0;
        }
        let sum: f64 = counts.values().sum();
        counts.values_mut().for_each(|count| *count /= sum);
        counts
    }
}

/// A conversation that a worker holds. It is released when the turn ends or the process dies.
struct InHand<'a>(&'a Watched, ConversationKey, usize);

impl<'a> InHand<'a> {
    fn take(watched: &'a Watched, key: ConversationKey, worker: usize) -> Self {
        let other = watched.in_hand.lock().unwrap().insert(key, worker);
        if let Some(other) = other.filter(|other| Some(*other) != *watched.killed.lock().unwrap()) {
            eprintln!("workers {other} and {worker} have one conversation");
            std::process::abort();
        }
        Self(watched, key, worker)
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        let Self(watched, key, worker) = self;
        let mut in_hand = watched.in_hand.lock().unwrap();
        if in_hand.get(key) == Some(worker) {
            in_hand.remove(key);
        }
    }
}

struct Turns {
    worker: usize,
    watched: Arc<Watched>,
}

#[async_trait]
impl Handler for Turns {
    async fn handle(&self, envelope: &mut Envelope) -> Decision {
        let (key, worker) = (envelope.key(), self.worker);
        let Body::Inbound(inbound) = &envelope.body else { panic!("not a text") };
        let number = inbound.text.expose().parse().unwrap();
        let in_hand = InHand::take(&self.watched, key, worker);
        sleep(TURN).await;
        drop(in_hand);
        self.watched.handled.lock().unwrap().push(Handled { worker, key, number, at: Instant::now() });
        Decision::done(Outcome::Answered)
    }
}

/// A worker with its own threads and connections, like a process.
struct Worker {
    runtime: Runtime,
    shutdown: Shutdown,
    running: tokio::task::JoinHandle<()>,
}

impl Worker {
    fn start(url: &str, worker: usize, watched: &Arc<Watched>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let broker = Arc::new(RabbitMq::new(vec![url.into()], Topology::new("share", PARTITIONS)));
        let handler = Arc::new(Turns { worker, watched: Arc::clone(watched) });
        let options = RunOptions { concurrency: 64, progress: Arc::default(), store: None, heartbeats: None };
        let working = run(broker, Stage::Inbound, handler, options, shutdown.clone());
        Self { running: runtime.spawn(working), runtime, shutdown }
    }

    async fn leave(self) {
        self.shutdown.start();
        timeout(Duration::from_secs(15), self.running).await.expect("it stops in time").unwrap();
        self.runtime.shutdown_background();
    }

    /// Ends the worker between two instructions. Its sockets close without a goodbye.
    fn kill(self) {
        self.runtime.shutdown_background();
    }
}

/// Publishes rounds of one text for each customer until `stop`. Returns the number of rounds.
async fn publish(url: String, stop: CancellationToken) -> u32 {
    let broker = RabbitMq::new(vec![url.as_str().into()], Topology::new("share", PARTITIONS));
    let mut round = 0;
    while !stop.is_cancelled() {
        let text = |customer| {
            let envelope = text_from(customer, round, &round.to_string());
            Outgoing::new(Destination::Work(Stage::Inbound), &envelope)
        };
        let texts: Vec<_> = (0..CUSTOMERS).map(text).collect();
        while let Err(failure) = broker.publish(&texts).await {
            assert!(failure.kind.is_retryable(), "{failure}");
            sleep(Duration::from_millis(20)).await;
        }
        round += 1;
        sleep(Duration::from_millis(100)).await;
    }
    round
}

/// Lets traffic flow until each of `workers` handles its share from now on. Returns the time that took.
async fn each_has_its_share(watched: &Watched, workers: &[usize]) -> Duration {
    let started = Instant::now();
    let mut shares = BTreeMap::new();
    while started.elapsed() < Duration::from_secs(30) {
        // The windows are short enough to see the moment, and long enough to see every conversation.
        let from = Instant::now();
        sleep(Duration::from_millis(500)).await;
        shares = watched.shares(from);
        let has_share = |worker| shares.get(worker).is_some_and(|share| *share >= LEAST_SHARE);
        if workers.iter().all(has_share) && shares.len() == workers.len() {
            println!("workers {workers:?} after {:?}: {shares:.2?}", started.elapsed());
            return started.elapsed();
        }
    }
    panic!("workers {workers:?} have shares {shares:.2?}");
}

/// From 1 to 4 to 2 workers. Two workers leave, one of them by being killed.
async fn workers_come_and_go(release: Release, is_shared: bool) {
    let start = move || RabbitMqServer::start_release(release);
    let server = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    let (watched, stop) = (Arc::new(Watched::default()), CancellationToken::new());
    let publishing = tokio::spawn(publish(server.url().to_owned(), stop.clone()));
    let mut workers = vec![Some(Worker::start(server.url(), 0, &watched))];
    each_has_its_share(&watched, &[0]).await;
    for worker in 1..4 {
        workers.push(Some(Worker::start(server.url(), worker, &watched)));
        if is_shared {
            let everybody: Vec<_> = (0..=worker).collect();
            let took = each_has_its_share(&watched, &everybody).await;
            assert!(took < Duration::from_secs(10), "worker {worker} waited {took:?} for its share");
        }
        sleep(Duration::from_secs(1)).await;
    }
    workers[0].take().unwrap().leave().await;
    if is_shared {
        each_has_its_share(&watched, &[1, 2, 3]).await;
    }
    sleep(Duration::from_secs(1)).await;
    // Without shares the first worker takes all partitions, and that is worker 1 now.
    let victim = if is_shared { 2 } else { 1 };
    let killed_at = Instant::now();
    *watched.killed.lock().unwrap() = Some(victim);
    workers[victim].take().unwrap().kill();
    if is_shared {
        each_has_its_share(&watched, &[1, 3]).await;
    }
    sleep(Duration::from_secs(2)).await;
    stop.cancel();
    let rounds = publishing.await.unwrap();
    all_were_handled_in_order(&watched, rounds, killed_at).await;
    for worker in workers.into_iter().flatten() {
        worker.leave().await;
    }
}

async fn all_were_handled_in_order(watched: &Watched, rounds: u32, killed_at: Instant) {
    let all = usize::from(CUSTOMERS) * usize::try_from(rounds).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let firsts = loop {
        let mut firsts: HashMap<ConversationKey, Vec<u32>> = HashMap::new();
        let mut repeated = 0;
        for one in watched.handled.lock().unwrap().iter() {
            let numbers = firsts.entry(one.key).or_default();
            if numbers.contains(&one.number) {
                assert!(one.at > killed_at, "number {} came twice although nobody had died", one.number);
                repeated += 1;
            } else {
                numbers.push(one.number);
            }
        }
        let handled: usize = firsts.values().map(Vec::len).sum();
        if handled == all {
            println!("{all} handled; {repeated} again, which a worker had in hand when it was killed");
            break firsts;
        }
        assert!(Instant::now() < deadline, "{handled} of {all} were handled");
        sleep(Duration::from_millis(100)).await;
    };
    for (key, numbers) in firsts {
        assert_eq!(numbers, (0..rounds).collect::<Vec<_>>(), "conversation {}", key.to_hex());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_every_worker_has_its_share_and_conversations_stay_whole_and_in_order() {
    if let Some(release) = Release::newer() {
        workers_come_and_go(release, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_conversations_stay_whole_and_in_order_whoever_has_the_partitions() {
    workers_come_and_go(Release::Usual, false).await;
}
