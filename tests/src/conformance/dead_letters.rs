//! The contract of every adapter of the dead letters' port.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::dead_letters::{DeadLetters, Filter, Letter, Order, Progress, Walk, discard, replay, survey};
use broker::{Broker, Depths, Destination, Outgoing, Reason, ReasonName, Stage};
use bytes::Bytes;
use message::clock::{Clock, Timestamp};
use message::{Body, Envelope};
use tokio::time::{Instant, sleep, timeout};

use super::DEADLINE;
use crate::samples::text_from;

/// Queues of one case's own, empty at first, and the same queues as an operator in another process sees them.
#[async_trait]
pub trait DeadLettersFixture: Send + Sync {
    /// A connection of a worker.
    async fn broker(&self) -> Arc<dyn Broker>;

    /// A connection of an operator. Each call returns another one, because every command has its own.
    async fn operator(&self) -> Arc<dyn DeadLetters>;

    /// Whether two operators exclude each other.
    fn is_exclusive(&self) -> bool;
}

/// Makes a `#[tokio::test]` of every case. `$fixture` is an expression that returns a fresh fixture.
#[macro_export]
macro_rules! dead_letters_suite {
    ($fixture:expr) => {
        $crate::dead_letters_suite!(@cases $fixture;
            looking_shows_everything_and_takes_nothing_off
            a_walk_passes_what_a_stage_left
            replayed_letters_reach_the_workers_in_order_of_acceptance
            a_running_worker_is_told_of_a_replay_from_another_process
            the_oldest_go_first_when_a_limit_is_set
            the_rate_is_kept
            unreadable_letters_are_not_replayed_and_can_be_discarded
            discarding_takes_what_the_filter_takes_and_nothing_else
            a_walk_that_is_cut_short_leaves_everything
            what_was_taken_off_does_not_come_back_when_the_walk_ends
            two_operators_never_replay_a_letter_twice
            a_long_detail_is_cut_rather_than_refused
        );
    };
    (@cases $fixture:expr; $($case:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::conformance::dead_letters::$case(&$fixture).await;
        })*
    };
}

/// Text `number` of `customer`, accepted at second `number`, dead for `reason`.
fn dead(stage: Stage, customer: u16, number: u32, reason: ReasonName) -> Outgoing {
    let mut envelope = text_from(customer, number, "what are your opening hours?");
    envelope.accepted_at = Timestamp::from_second(number.into()).unwrap();
    Outgoing::new(Destination::Dead(stage, Reason::new(reason, "a sentence for people")), &envelope)
}

fn unreadable() -> Outgoing {
    let destination = Destination::Dead(Stage::Inbound, Reason::new(ReasonName::Unreadable, "no envelope"));
    let payload = Bytes::from_static(b"\xff\x00 no envelope");
    Outgoing { destination, id: None, key: None, trace: String::new(), payload }
}

fn everything(rate_per_second: u32) -> Order {
    Order { filter: Filter::default(), limit: None, rate_per_second, by: "somebody@here".to_owned() }
}

async fn replay_all(operator: &dyn DeadLetters, order: &Order) -> Progress {
    let mut progress = Progress::default();
    timeout(DEADLINE, replay(operator, order, &Clock::system(), &mut progress)).await.unwrap().unwrap();
    progress
}

/// Opens a walk, as soon as the broker knows that the walk before it has ended.
async fn open(operator: &dyn DeadLetters, stage: Option<Stage>) -> Box<dyn Walk> {
    let opened = async {
        loop {
            if let Ok(walk) = operator.open(stage).await {
                return walk;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, opened).await.expect("the walk begins")
}

async fn all(operator: &dyn DeadLetters, stage: Option<Stage>) -> Vec<Letter> {
    let mut walk = open(operator, stage).await;
    let found = survey(&mut *walk, &Filter { stage, ..Filter::default() }, Timestamp::MAX, 10_000, Some).await.unwrap();
    walk.close().await;
    found.first
}

/// RabbitMQ's channels delay acknowledgements that come faster than the queue takes them, and drop them when closed.
pub async fn what_was_taken_off_does_not_come_back_when_the_walk_ends(fixture: &dyn DeadLettersFixture) {
    const COUNT: u32 = 3000;
    let (broker, operator) = (fixture.broker().await, fixture.operator().await);
    let letters: Vec<_> = (0..COUNT).map(|number| dead(Stage::Inbound, 1, number, ReasonName::Expired)).collect();
    broker.publish(&letters).await.unwrap();
    let (of_each, any) = (u64::from(COUNT / 10), Filter::default());
    for round in 1..5 {
        replay_all(&*operator, &Order { limit: Some(of_each), ..everything(0) }).await;
        let mut discarded = 0;
        let discarding = discard(&*operator, &any, Some(of_each), Timestamp::MAX, &mut discarded);
        timeout(DEADLINE, discarding).await.unwrap().unwrap();
        let mut walk = open(&*operator, None).await;
        let left = survey(&mut *walk, &any, Timestamp::MAX, 0, Some).await.unwrap();
        walk.close().await;
        assert_eq!(left.matched(), u64::from(COUNT) - round * 2 * of_each, "round {round}");
    }
}

/// The next `count` texts that workers get, each settled: customer, number and envelope.
async fn work_off(broker: &dyn Broker, stage: Stage, count: usize) -> Vec<(u16, u32, Envelope)> {
    let mut subscription = broker.subscribe(stage, 64);
    let mut texts = Vec::new();
    for _ in 0..count {
        let delivery = timeout(DEADLINE, subscription.next()).await.expect("a delivery comes");
        delivery.settle(&[]).await.unwrap();
        let envelope = Envelope::decode(&delivery.payload).unwrap();
        let (customer, number) = which(&envelope);
        texts.push((customer, number, envelope));
    }
    subscription.close().await;
    texts
}

fn which(envelope: &Envelope) -> (u16, u32) {
    let Body::Inbound(inbound) = &envelope.body else { panic!("only texts were published") };
    let (customer, number) = inbound.provider_message_id.strip_prefix("SM-").unwrap().split_once('-').unwrap();
    (customer.parse().unwrap(), number.parse().unwrap())
}

/// Waits until the depths are `expected`, because a broker may update its counts a moment later.
async fn assert_depths(broker: &dyn Broker, expected: Depths) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = broker.depths().await.unwrap();
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?} instead of {expected:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn dead_depth(dead: u64) -> Depths {
    Depths { dead, ..Depths::default() }
}

/// A walk shows each letter as it is, and leaves it in its queue.
pub async fn looking_shows_everything_and_takes_nothing_off(fixture: &dyn DeadLettersFixture) {
    let (broker, operator) = (fixture.broker().await, fixture.operator().await);
    let began_at = Clock::system().now() - Duration::from_secs(1);
    broker.publish(&[dead(Stage::Receipts, 1, 7, ReasonName::Expired)]).await.unwrap();
    for _ in 0..3 {
        let letters = all(&*operator, None).await;
        let [letter] = &letters[..] else { panic!("{letters:?}") };
        assert_eq!((letter.stage, letter.reason.as_str()), (Stage::Receipts, "expired"));
        assert_eq!(letter.detail, "a sentence for people");
        assert!(letter.died_at.is_some_and(|at| at > began_at), "{:?}", letter.died_at);
        let envelope = letter.envelope().unwrap();
        assert_eq!(which(envelope), (1, 7));
        assert!(letter.headers.contains(&("traceparent".to_owned(), envelope.trace.clone())), "{:?}", letter.headers);
    }
    assert_depths(&*broker, dead_depth(1)).await;
}

/// A walk of one stage passes all letters of that stage.
pub async fn a_walk_passes_what_a_stage_left(fixture: &dyn DeadLettersFixture) {
    let (broker, operator) = (fixture.broker().await, fixture.operator().await);
    let letters: Vec<_> = Stage::ALL.into_iter().map(|stage| dead(stage, 1, 0, ReasonName::Expired)).collect();
    broker.publish(&letters).await.unwrap();
    assert_eq!(all(&*operator, None).await.len(), 3);
    for stage in Stage::ALL {
        let found = all(&*operator, Some(stage)).await;
        assert_eq!(found.iter().map(|letter| letter.stage).collect::<Vec<_>>(), [stage]);
    }
}

/// Replay restores the order of each conversation, whichever letter died first. Each letter records the operator of its
/// replay.
pub async fn replayed_letters_reach_the_workers_in_order_of_acceptance(fixture: &dyn DeadLettersFixture) {
    let (broker, operator) = (fixture.broker().await, fixture.operator().await);
    let order = [5, 2, 0, 7, 1, 3, 6, 4];
    let letters =
        order.map(|number| [1, 2, 3].map(|customer| dead(Stage::Inbound, customer, number, ReasonName::Expired)));
    broker.publish(&letters.concat()).await.unwrap();
    assert_eq!(replay_all(&*operator, &everything(0)).await, Progress { replayed: 24, unreadable: 0 });
    let texts = work_off(&*broker, Stage::Inbound, 24).await;
    for customer in [1, 2, 3] {
        let numbers: Vec<_> = texts.iter().filter(|text| text.0 == customer).map(|text| text.1).collect();
        assert_eq!(numbers, (0..8).collect::<Vec<_>>());
    }
    for (_, _, envelope) in texts {
        let [replay] = &envelope.replays[..] else { panic!("{:?}", envelope.replays) };
        assert_eq!((replay.by.as_str(), replay.reason.as_str()), ("somebody@here", "expired"));
    }
    assert_depths(&*broker, Depths::default()).await;
}

/// A worker that waits for work gets replayed messages, although they were published in another process.
pub async fn a_running_worker_is_told_of_a_replay_from_another_process(fixture: &dyn DeadLettersFixture) {
    let (broker, operator) = (fixture.broker().await, fixture.operator().await);
    broker.publish(&[dead(Stage::Outbound, 1, 3, ReasonName::Permanent)]).await.unwrap();
    let worker = {
        let broker = broker.clone();
        tokio::spawn(async move { work_off(&*broker, Stage::Outbound, 1).await })
    };
    // By then the worker has found its queue empty. If it has not looked yet, it finds the message at once, which is
    // fine, too.
    sleep(Duration::from_millis(200)).await;
    replay_all(&*operator, &everything(0)).await;
    assert_eq!(timeout(Duration::from_secs(10), worker).await.expect("soon").unwrap()[0].1, 3);
}

/// A limit never takes a later text of a conversation before an earlier one.
pub async fn the_oldest_go_first_when_a_limit_is_set(fixture: &dyn DeadLettersFixture) {
    let (broker, operator) = (fixture.broker().await, fixture.operator().await);
    broker.publish(&[4, 3, 2, 1, 0].map(|number| dead(Stage::Inbound, 1, number, ReasonName::Expired))).await.unwrap();
    let order = Order { limit: Some(2), ..everything(0) };
    for expected in [vec![0, 1], vec![2, 3], vec![4]] {
        replay_all(&*operator, &order).await;
        let numbers: Vec<_> = work_off(&*broker, Stage::Inbound, expected.len()).await.iter().map(|t| t.1).collect();
        assert_eq!(numbers, expected);
    }
    assert_depths(&*broker, Depths::default()).await;
}

/// At no time are more letters replayed than the rate allows.
pub async fn the_rate_is_kept(fixture: &dyn DeadLettersFixture) {
    let (broker, operator) = (fixture.broker().await, fixture.operator().await);
    let letters: Vec<_> = (0..41).map(|number| dead(Stage::Inbound, 1, number, ReasonName::Expired)).collect();
    broker.publish(&letters).await.unwrap();
    let began = Instant::now();
    replay_all(&*operator, &everything(20)).await;
    // 2 at a time, so the last of 21 steps is taken 2 s after the first.
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2), "41 at 20 a second took only {took:?}");
    assert_depths(&*broker, Depths { inbound: 41, ..Depths::default() }).await;
}

/// No worker could process unreadable letters, so they stay until they are discarded.
pub async fn unreadable_letters_are_not_replayed_and_can_be_discarded(fixture: &dyn DeadLettersFixture) {
    let (broker, operator) = (fixture.broker().await, fixture.operator().await);
    broker.publish(&[unreadable(), dead(Stage::Inbound, 1, 0, ReasonName::Expired)]).await.unwrap();
    assert_eq!(replay_all(&*operator, &everything(0)).await, Progress { replayed: 1, unreadable: 1 });
    assert_depths(&*broker, Depths { inbound: 1, dead: 1, ..Depths::default() }).await;
    let letters = all(&*operator, None).await;
    assert_eq!((letters[0].reason.as_str(), letters[0].size_bytes), ("unreadable", 14));
    let (filter, mut discarded) = (Filter { names: vec![letters[0].name()], ..Filter::default() }, 0);
    discard(&*operator, &filter, None, Clock::system().now(), &mut discarded).await.unwrap();
    assert_eq!(discarded, 1);
    assert_depths(&*broker, Depths { inbound: 1, ..Depths::default() }).await;
}

/// Letters that the filter does not match stay.
pub async fn discarding_takes_what_the_filter_takes_and_nothing_else(fixture: &dyn DeadLettersFixture) {
    let (broker, operator) = (fixture.broker().await, fixture.operator().await);
    let mut letters: Vec<_> = (0..5).map(|number| dead(Stage::Inbound, 1, number, ReasonName::Expired)).collect();
    letters.extend((5..8).map(|number| dead(Stage::Outbound, 1, number, ReasonName::Permanent)));
    broker.publish(&letters).await.unwrap();
    let filter = Filter { reason: Some("expired".to_owned()), ..Filter::default() };
    for (limit, expected) in [(Some(2), 2), (None, 3), (None, 0)] {
        let mut discarded = 0;
        discard(&*operator, &filter, limit, Clock::system().now(), &mut discarded).await.unwrap();
        assert_eq!(discarded, expected);
    }
    let left: Vec<_> = all(&*operator, None).await.iter().map(|letter| letter.reason.clone()).collect();
    assert_eq!(left, ["permanent", "permanent", "permanent"]);
}

/// An operator that dies in the middle of a walk removes no letters.
pub async fn a_walk_that_is_cut_short_leaves_everything(fixture: &dyn DeadLettersFixture) {
    let (broker, operator) = (fixture.broker().await, fixture.operator().await);
    let letters: Vec<_> = (0..50).map(|number| dead(Stage::Inbound, 1, number, ReasonName::Expired)).collect();
    broker.publish(&letters).await.unwrap();
    let mut walk = open(&*operator, None).await;
    for _ in 0..7 {
        walk.next().await.unwrap().unwrap();
    }
    drop(walk);
    drop(operator);
    let numbers: Vec<_> =
        all(&*fixture.operator().await, None).await.iter().map(|letter| which(letter.envelope().unwrap()).1).collect();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    assert_depths(&*broker, dead_depth(50)).await;
}

/// If the broker can detect it, the second operator is refused. Otherwise each operator replays only the letters that
/// the other one has not taken.
pub async fn two_operators_never_replay_a_letter_twice(fixture: &dyn DeadLettersFixture) {
    let (broker, one, two) = (fixture.broker().await, fixture.operator().await, fixture.operator().await);
    broker.publish(&[dead(Stage::Inbound, 1, 0, ReasonName::Expired)]).await.unwrap();
    let mut walk = open(&*one, None).await;
    let found = survey(&mut *walk, &Filter::default(), Timestamp::MAX, 1, Some).await.unwrap();
    assert_eq!(found.matched(), 1);
    if fixture.is_exclusive() {
        let refused = two.open(None).await.map(drop).unwrap_err();
        assert!(refused.to_string().contains("somebody else"), "{refused}");
        walk.close().await;
        assert_eq!(replay_all(&*two, &everything(0)).await.replayed, 1);
        return;
    }
    assert_eq!(replay_all(&*two, &everything(0)).await.replayed, 1);
    let message = Outgoing::new(Destination::Work(Stage::Inbound), found.first[0].envelope().unwrap());
    assert_eq!(walk.replay(&[(found.first[0].tag, message)]).await.unwrap(), 0);
    assert!(!walk.discard(found.first[0].tag).await.unwrap());
    assert_depths(&*broker, Depths { inbound: 1, ..Depths::default() }).await;
}

/// A provider's very long error text must not keep a message out of the dead letters.
pub async fn a_long_detail_is_cut_rather_than_refused(fixture: &dyn DeadLettersFixture) {
    let (broker, operator) = (fixture.broker().await, fixture.operator().await);
    let reason = Reason::new(ReasonName::Permanent, "é".repeat(100_000));
    let message = Outgoing::new(Destination::Dead(Stage::Inbound, reason), &text_from(1, 0, "hi"));
    broker.publish(&[message]).await.unwrap();
    let letters = all(&*operator, None).await;
    assert!(letters[0].detail.starts_with("ééé"));
}
