//! The run loop that settles messages, with a handler for each test: order, retries, dead letters, panics, shutdown.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use broker::{Broker, Depths, Destination, Outgoing, Reason, ReasonName, Stage};
use embedded::EmbeddedBroker;
use embedded::{Database, EmbeddedStore};
use message::clock::Clock;
use message::failure::Failure;
use message::shutdown::Shutdown;
use message::{Body, Envelope};
use store::{Commit, Key, Record, Store, Write};
use tests::samples::text_from;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use work::{Decision, Handler, Held, LaneState, Outcome, Progress, RunOptions};

const DEADLINE: Duration = Duration::from_secs(30);

/// Decides about a message; the number says how often the handler has seen it before.
type Decide = dyn Fn(&Envelope, usize) -> Decision + Send + Sync;

/// A handler that decides with a function and records the messages it saw.
struct Recorder {
    seen: Mutex<Vec<(Envelope, usize)>>,
    decide: Box<Decide>,
    /// Each message needs a permit before it is decided.
    gate: Semaphore,
    window: Duration,
    stays: Mutex<Vec<LaneState>>,
}

#[async_trait]
impl Handler for Recorder {
    async fn handle(&self, envelope: &mut Envelope) -> Decision {
        let before = {
            let mut seen = self.seen.lock().unwrap();
            let before = seen.iter().filter(|(other, _)| other.id == envelope.id).count();
            seen.push((envelope.clone(), before));
            before
        };
        self.gate.acquire().await.unwrap().forget();
        (self.decide)(envelope, before)
    }

    async fn handle_in_lane(&self, envelope: &mut Envelope, stay: LaneState) -> Decision {
        self.stays.lock().unwrap().push(stay);
        self.handle(envelope).await
    }

    fn join_window(&self, _: &Envelope) -> Duration {
        self.window
    }
}

impl Recorder {
    fn new(decide: impl Fn(&Envelope, usize) -> Decision + Send + Sync + 'static) -> Arc<Self> {
        let gate = Semaphore::new(1_000_000);
        Arc::new(Self {
            seen: Mutex::default(),
            decide: Box::new(decide),
            gate,
            window: Duration::ZERO,
            stays: Mutex::default(),
        })
    }

    fn texts(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(envelope, _)| text_of(envelope)).collect()
    }
}

fn text_of(envelope: &Envelope) -> String {
    let Body::Inbound(inbound) = &envelope.body else { panic!("not a text") };
    inbound.text.expose().to_owned()
}

fn done(_: &Envelope, _: usize) -> Decision {
    Decision::done(Outcome::Answered)
}

fn broker() -> Arc<EmbeddedBroker> {
    Arc::new(EmbeddedBroker::new(Database::in_memory().unwrap(), Clock::system()))
}

fn start(broker: &Arc<EmbeddedBroker>, handler: &Arc<Recorder>, grace: Duration) -> (Shutdown, JoinHandle<()>) {
    start_with(broker, handler, grace, &Arc::default())
}

fn start_with(
    broker: &Arc<EmbeddedBroker>,
    handler: &Arc<Recorder>,
    grace: Duration,
    progress: &Arc<Progress>,
) -> (Shutdown, JoinHandle<()>) {
    start_as(
        broker,
        handler,
        grace,
        RunOptions { concurrency: 8, progress: progress.clone(), store: None, heartbeats: None },
    )
}

fn start_as(
    broker: &Arc<EmbeddedBroker>,
    handler: &Arc<Recorder>,
    grace: Duration,
    options: RunOptions,
) -> (Shutdown, JoinHandle<()>) {
    let shutdown = Shutdown::new(grace);
    let (broker, handler) = (Arc::clone(broker) as Arc<dyn Broker>, Arc::clone(handler) as Arc<dyn Handler>);
    let running = work::run(broker, Stage::Inbound, handler, options, shutdown.clone());
    (shutdown, tokio::spawn(running))
}

async fn publish(broker: &EmbeddedBroker, messages: &[Envelope]) {
    let outgoing: Vec<_> = messages.iter().map(|one| Outgoing::new(Destination::Work(Stage::Inbound), one)).collect();
    broker.publish(&outgoing).await.unwrap();
}

async fn await_depths(broker: &EmbeddedBroker, wanted: Depths) {
    let reached = async {
        while broker.depths().await.unwrap() != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(DEADLINE, reached).await.is_err() {
        panic!("the depths stayed at {:?}", broker.depths().await);
    }
}

async fn stop(shutdown: &Shutdown, running: JoinHandle<()>) {
    shutdown.start();
    tokio::time::timeout(DEADLINE, running).await.expect("the loop ends in time").unwrap();
}

#[tokio::test]
async fn messages_of_a_conversation_are_handled_in_order_and_settled() {
    let (broker, handler) = (broker(), Recorder::new(done));
    let messages: Vec<_> = (0..40).map(|n| text_from((n % 4) as u16, n, &n.to_string())).collect();
    publish(&broker, &messages).await;
    let (shutdown, running) = start(&broker, &handler, DEADLINE);
    await_depths(&broker, Depths::default()).await;
    stop(&shutdown, running).await;
    let texts = handler.texts();
    for customer in 0..4 {
        let of_customer: Vec<u32> =
            texts.iter().map(|text| text.parse().unwrap()).filter(|n: &u32| n % 4 == customer).collect();
        assert_eq!(of_customer, (0..40).filter(|n| n % 4 == customer).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn effects_are_published_and_unreadable_and_refused_messages_become_dead_letters() {
    let broker = broker();
    let handler = Recorder::new(|envelope, _| match text_of(envelope).as_str() {
        "forward" => {
            let effect = Outgoing::new(Destination::Work(Stage::Outbound), envelope);
            Decision::done(Outcome::Answered).publishing(vec![effect])
        }
        _ => Decision::dead_letter(Reason::new(ReasonName::Permanent, "it is a test")),
    });
    publish(&broker, &[text_from(1, 1, "forward"), text_from(1, 2, "refuse")]).await;
    let garbage = Outgoing {
        destination: Destination::Work(Stage::Inbound),
        id: None,
        key: None,
        trace: String::new(),
        payload: vec![0xFF; 64].into(),
    };
    broker.publish(&[garbage]).await.unwrap();
    let (shutdown, running) = start(&broker, &handler, DEADLINE);
    await_depths(&broker, Depths { outbound: 1, dead: 2, ..Depths::default() }).await;
    stop(&shutdown, running).await;
    assert_eq!(handler.texts(), ["forward", "refuse"], "the unreadable message never reached the handler");
}

#[tokio::test]
async fn a_handler_that_panics_loses_its_message_to_the_dead_letters_and_nothing_else() {
    let broker = broker();
    let handler = Recorder::new(|envelope, _| {
        assert!(text_of(envelope) != "panic", "as planned");
        Decision::done(Outcome::Answered)
    });
    publish(&broker, &[text_from(1, 1, "panic"), text_from(1, 2, "after"), text_from(2, 3, "beside")]).await;
    let (shutdown, running) = start(&broker, &handler, DEADLINE);
    await_depths(&broker, Depths { dead: 1, ..Depths::default() }).await;
    stop(&shutdown, running).await;
    assert_eq!(handler.texts().len(), 3);
}

#[tokio::test]
async fn a_parked_message_comes_back_with_its_attempts() {
    let broker = broker();
    let handler = Recorder::new(|_, before| match before {
        0 => Decision::retry_after(Duration::from_millis(200)),
        _ => Decision::done(Outcome::Answered),
    });
    let mut message = text_from(1, 1, "again");
    message.record_attempt(Clock::system().now(), &Failure::transient("an earlier try"));
    publish(&broker, &[message.clone()]).await;
    let (shutdown, running) = start(&broker, &handler, DEADLINE);
    await_depths(&broker, Depths { delayed: 1, ..Depths::default() }).await;
    await_depths(&broker, Depths::default()).await;
    stop(&shutdown, running).await;
    let seen = handler.seen.lock().unwrap();
    assert_eq!(seen.iter().map(|(envelope, _)| envelope).collect::<Vec<_>>(), [&message, &message]);
}

#[tokio::test]
async fn shutdown_finishes_what_runs_and_gives_the_rest_back_in_order() {
    let (broker, handler) = (broker(), Recorder::new(done));
    handler.gate.forget_permits(1_000_000);
    publish(&broker, &[text_from(1, 1, "runs"), text_from(1, 2, "waits"), text_from(1, 3, "waits too")]).await;
    let (shutdown, running) = start(&broker, &handler, DEADLINE);
    while handler.texts().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shutdown.start();
    handler.gate.add_permits(10);
    stop(&shutdown, running).await;
    assert_eq!(handler.texts(), ["runs"]);
    assert_eq!(broker.depths().await.unwrap(), Depths { inbound: 2, ..Depths::default() });
    let next = Recorder::new(done);
    let (shutdown, running) = start(&broker, &next, DEADLINE);
    await_depths(&broker, Depths::default()).await;
    stop(&shutdown, running).await;
    assert_eq!(next.texts(), ["waits", "waits too"]);
    assert!(next.seen.lock().unwrap().iter().all(|(envelope, _)| envelope.attempts.is_empty()), "no attempt was spent");
}

#[tokio::test]
async fn what_outlasts_the_grace_period_is_given_back() {
    let (broker, handler) = (broker(), Recorder::new(done));
    handler.gate.forget_permits(1_000_000);
    publish(&broker, &[text_from(1, 1, "hangs")]).await;
    let (shutdown, running) = start(&broker, &handler, Duration::from_millis(50));
    while handler.texts().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop(&shutdown, running).await;
    assert_eq!(broker.depths().await.unwrap(), Depths { inbound: 1, ..Depths::default() });
}

#[tokio::test]
async fn nothing_overtakes_a_message_that_was_given_back() {
    let (broker, handler) = (broker(), Recorder::new(|_, _| Decision::give_back()));
    publish(&broker, &[text_from(1, 1, "first"), text_from(1, 2, "second"), text_from(2, 3, "beside")]).await;
    let (shutdown, running) = start(&broker, &handler, DEADLINE);
    while handler.texts().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop(&shutdown, running).await;
    assert!(!handler.texts().contains(&"second".to_owned()), "{:?}", handler.texts());
    assert_eq!(broker.depths().await.unwrap(), Depths { inbound: 3, ..Depths::default() });
}

#[tokio::test]
async fn a_burst_is_handled_as_one_and_settled_whole() {
    let broker = broker();
    let mut handler = Recorder::new(done);
    Arc::get_mut(&mut handler).unwrap().window = Duration::from_millis(100);
    publish(&broker, &[text_from(1, 1, "a"), text_from(1, 2, "b"), text_from(2, 3, "c")]).await;
    let (shutdown, running) = start(&broker, &handler, DEADLINE);
    await_depths(&broker, Depths::default()).await;
    stop(&shutdown, running).await;
    let seen = handler.seen.lock().unwrap();
    let mut joined: Vec<_> = seen
        .iter()
        .map(|(envelope, _)| {
            let Body::Inbound(inbound) = &envelope.body else { panic!("not a text") };
            (text_of(envelope), inbound.joined.iter().map(|one| one.id).collect::<Vec<_>>())
        })
        .collect();
    joined.sort();
    assert_eq!(joined, [("a".to_owned(), vec![text_from(1, 2, "b").id]), ("c".to_owned(), vec![])]);
}

#[tokio::test]
async fn a_message_that_rests_holds_no_slot_keeps_its_place_and_knows_how_long_it_rested() {
    let broker = broker();
    let pause = Duration::from_millis(300);
    let handler = Recorder::new(move |envelope, before| match (text_of(envelope).as_str(), before) {
        ("rests", 0 | 1) => Decision::rest(pause),
        _ => Decision::done(Outcome::Answered),
    });
    // More resting messages than the eight slots.
    let resting: Vec<_> = (0..20).map(|customer| text_from(customer, 1, "rests")).collect();
    publish(&broker, &resting).await;
    publish(&broker, &[text_from(0, 2, "follows"), text_from(30, 1, "beside")]).await;
    let started = tokio::time::Instant::now();
    let (shutdown, running) = start(&broker, &handler, DEADLINE);
    await_depths(&broker, Depths::default()).await;
    let took = started.elapsed();
    stop(&shutdown, running).await;
    assert!(took < pause * 4, "20 messages that rest 600 ms each took {took:?}");
    let texts = handler.texts();
    let at = |wanted: &str| texts.iter().position(|text| text == wanted).unwrap();
    assert_eq!(at("beside"), 20, "it waits for none of them: {texts:?}");
    assert!(at("follows") > 40, "it follows what rested: {texts:?}");
    let stays = handler.stays.lock().unwrap();
    for (times, rested) in [(20, pause), (20, pause * 2)] {
        assert_eq!(stays.iter().filter(|stay| stay.rested == rested).count(), times);
    }
}

#[tokio::test]
async fn shutdown_gives_resting_messages_back_at_once() {
    let (broker, handler) = (broker(), Recorder::new(|_, _| Decision::rest(Duration::from_secs(3600))));
    publish(&broker, &[text_from(1, 1, "rests"), text_from(1, 2, "waits")]).await;
    let (shutdown, running) = start(&broker, &handler, DEADLINE);
    while handler.texts().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stopped = tokio::time::Instant::now();
    stop(&shutdown, running).await;
    assert!(stopped.elapsed() < Duration::from_secs(5));
    assert_eq!(broker.depths().await.unwrap(), Depths { inbound: 2, ..Depths::default() });
    assert_eq!(handler.texts(), ["rests"]);
}

#[tokio::test]
async fn a_conversation_with_thousands_of_texts_does_not_keep_the_others_waiting() {
    let (broker, handler) = (broker(), Recorder::new(done));
    handler.gate.forget_permits(1_000_000);
    let noisy: Vec<_> = (0..3000).map(|number| text_from(1, number, "noisy")).collect();
    publish(&broker, &noisy).await;
    publish(&broker, &[text_from(2, 1, "quiet")]).await;
    let (shutdown, running) = start(&broker, &handler, Duration::ZERO);
    let came = async {
        while !handler.texts().contains(&"quiet".to_owned()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, came).await.expect("the quiet one comes while the first noisy one hangs");
    assert_eq!(handler.texts(), ["noisy", "quiet"]);
    stop(&shutdown, running).await;
}

#[tokio::test]
async fn what_is_too_large_becomes_a_dead_letter_unread() {
    let (broker, handler) = (broker(), Recorder::new(done));
    publish(&broker, &[text_from(1, 1, &"x".repeat(1024 * 1024)), text_from(1, 2, "small")]).await;
    let (shutdown, running) = start(&broker, &handler, DEADLINE);
    await_depths(&broker, Depths { dead: 1, ..Depths::default() }).await;
    stop(&shutdown, running).await;
    assert_eq!(handler.texts(), ["small"]);
}

#[tokio::test]
async fn what_is_held_is_bounded_in_bytes_and_number() {
    let (broker, handler) = (broker(), Recorder::new(done));
    handler.gate.forget_permits(1_000_000);
    let large: Vec<_> = (0..90).map(|customer| text_from(customer, 1, &"x".repeat(1_000_000))).collect();
    publish(&broker, &large).await;
    let small: Vec<_> = (100..700).map(|customer| text_from(customer, 1, "small")).collect();
    publish(&broker, &small).await;
    let progress = Arc::new(Progress::default());
    let (shutdown, running) = start_with(&broker, &handler, DEADLINE, &progress);
    let most = |held: Held| (held.messages, held.bytes / 1_000_000);
    let mut most_held = (0, 0);
    for _ in 0..690 {
        let (messages, megabytes) = most(progress.held());
        most_held = (most_held.0.max(messages), most_held.1.max(megabytes));
        handler.gate.add_permits(1);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    await_depths(&broker, Depths::default()).await;
    stop(&shutdown, running).await;
    assert!(most_held.1 <= 68, "{most_held:?}");
    assert!((200..=256).contains(&most_held.0), "{most_held:?}");
}

/// A store that counts its commits, and fails as `trouble` says.
#[derive(Debug)]
struct Counting {
    inner: EmbeddedStore,
    commits: AtomicUsize,
    trouble: Trouble,
}

/// The trouble of a store.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// The answer to every other commit is lost, although the commit was made.
    LosesAnswers,
    /// The first commit panics.
    PanicsOnce,
}

impl Counting {
    fn with(trouble: Trouble) -> Arc<Self> {
        let inner = EmbeddedStore::new(Database::in_memory().unwrap(), Clock::system());
        Arc::new(Self { inner, commits: AtomicUsize::new(0), trouble })
    }
}

#[async_trait]
impl Store for Counting {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Failure> {
        self.inner.get(keys).await
    }

    async fn commit(&self, writes: &[Write]) -> Result<Commit, Failure> {
        let before = self.commits.fetch_add(1, Ordering::SeqCst);
        assert!(self.trouble != Trouble::PanicsOnce || before > 0, "as told");
        let committed = self.inner.commit(writes).await;
        if self.trouble == Trouble::LosesAnswers && before.is_multiple_of(2) {
            return Err(Failure::unknown("no answer in time"));
        }
        committed
    }

    async fn check(&self) -> Result<(), Failure> {
        self.inner.check().await
    }
}

#[tokio::test]
async fn what_comes_for_the_first_time_costs_no_store_call_and_suspects_run_side_by_side() {
    let (broker, handler) = (broker(), Recorder::new(done));
    let store = Counting::with(Trouble::None);
    let options =
        || RunOptions { concurrency: 8, progress: Arc::default(), store: Some(store.clone()), heartbeats: None };
    let first: Vec<_> = (0..10).map(|customer| text_from(customer, 1, "first")).collect();
    publish(&broker, &first).await;
    let (shutdown, running) = start_as(&broker, &handler, DEADLINE, options());
    await_depths(&broker, Depths::default()).await;
    stop(&shutdown, running).await;
    assert_eq!(store.commits.load(Ordering::SeqCst), 0);

    let again: Vec<_> = (0..8).map(|customer| text_from(customer, 2, "again")).collect();
    publish(&broker, &again).await;
    let mut lost = broker.subscribe(Stage::Inbound, 1);
    lost.next().await;
    // The subscription is lost as when a process dies, without giving its messages back in good order.
    drop(lost);
    handler.gate.forget_permits(1_000_000);
    let (shutdown, running) = start_as(&broker, &handler, DEADLINE, options());
    let side_by_side = async {
        while handler.texts().len() < 18 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, side_by_side).await.expect("none waits for another");
    handler.gate.add_permits(8);
    await_depths(&broker, Depths::default()).await;
    stop(&shutdown, running).await;
    assert_eq!(store.commits.load(Ordering::SeqCst), 16, "each was written down and struck out");
}

#[tokio::test]
async fn a_suspect_is_not_tried_twice_because_the_stores_answer_was_lost() {
    let (broker, handler) = (broker(), Recorder::new(done));
    let store = Counting::with(Trouble::LosesAnswers);
    publish(&broker, &[text_from(1, 1, "suspect")]).await;
    drop(lost_by_a_dead_process(&broker).await);
    handler.gate.forget_permits(1_000_000);
    let options = RunOptions { concurrency: 8, progress: Arc::default(), store: Some(store.clone()), heartbeats: None };
    let (shutdown, running) = start_as(&broker, &handler, DEADLINE, options);
    while handler.texts().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(store.commits.load(Ordering::SeqCst), 2, "one death was written down, not two");
    handler.gate.add_permits(1);
    await_depths(&broker, Depths::default()).await;
    stop(&shutdown, running).await;
}

#[tokio::test]
async fn g4_a_panic_outside_the_handler_costs_a_conversation_nothing_but_time() {
    let (broker, handler) = (broker(), Recorder::new(done));
    publish(&broker, &[text_from(1, 1, "first"), text_from(1, 2, "second")]).await;
    drop(lost_by_a_dead_process(&broker).await);
    let store = Counting::with(Trouble::PanicsOnce);
    let options = RunOptions { concurrency: 8, progress: Arc::default(), store: Some(store), heartbeats: None };
    let (shutdown, running) = start_as(&broker, &handler, DEADLINE, options);
    await_depths(&broker, Depths::default()).await;
    stop(&shutdown, running).await;
    assert_eq!(handler.texts(), ["first", "second"]);
}

/// Takes a message off the queue as a dying process does, without giving it back in good order.
async fn lost_by_a_dead_process(broker: &EmbeddedBroker) -> broker::Delivery {
    let mut lost = broker.subscribe(Stage::Inbound, 1);
    lost.next().await
}
