//! How long each of our numbers sends nothing because its provider throttled it. The instant lies in the store, so that
//! every sender keeps to it, one that starts later too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::clock::{Clock, Timestamp};
use common::message::Conversation;
use common::shutdown::Shutdown;
use common::store::{Expect, Halt, Key, PatientStore, Record, Store, Write, Written};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::rate::{LONGEST_PAUSE, Number};

/// The pause of a number whose provider names none; it doubles while the provider goes on throttling.
const FIRST: Duration = Duration::from_secs(1);
/// No pause without a hint is longer.
const LONGEST_UNHINTED: Duration = Duration::from_secs(60);
/// How long after its end a pause is remembered: a number throttled again within it pauses for twice as long.
const MEMORY: Duration = Duration::from_secs(10 * 60);

/// A clock by which a pause is this much too long was set back; less is the difference between two machines.
const SET_BACK: Duration = Duration::from_secs(1);

/// A number's pause, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Pause {
    /// Until then nobody sends.
    until: Timestamp,
    /// How long that was when it was written: a clock that is set back does not make it longer.
    length_ms: u64,
    /// How many pauses followed each other without a text accepted between them, this one included.
    streak: u32,
}

impl Pause {
    fn length(&self) -> Duration {
        Duration::from_millis(self.length_ms).min(LONGEST_PAUSE)
    }
}

/// The pauses of all numbers.
#[derive(Debug)]
pub(crate) struct Pauses {
    store: PatientStore,
    clock: Clock,
    seen: Mutex<HashMap<Number, Seen>>,
}

/// The pause that this process knows of. Its end is kept in steady time: the wall clock may be set meanwhile.
#[derive(Debug, Clone, Copy)]
struct Seen {
    version: Option<u64>,
    ends: Instant,
}

/// What a look at a number found.
#[derive(Debug)]
pub(crate) struct Look {
    /// How long it still sends nothing.
    pub(crate) rest: Duration,
    record: Option<Record>,
}

impl Pauses {
    /// The pauses in `store`. While the store is away everything waits, until `shutdown`.
    pub(crate) fn new(store: Arc<dyn Store>, clock: Clock, shutdown: Shutdown) -> Self {
        Self { store: PatientStore::new(store, shutdown), clock, seen: Mutex::default() }
    }

    /// Whether `number` may send, as far as any sender knows.
    pub(crate) async fn look(&self, number: &Number) -> Result<Look, Halt> {
        let [record] = self.store.get([key(number)]).await?;
        let rest = self.rest(number, record.as_ref());
        if let Some((record, pause)) = record.as_ref().and_then(|record| Some((record, read(record)?)))
            && self.left(pause) > pause.length() + SET_BACK
        {
            // The clock was set back since: who starts after us is to see no more than is left.
            self.put(number, Expect::Version(record.version), Pause { until: self.until(rest), ..pause }).await?;
        }
        Ok(Look { rest, record })
    }

    /// Notes that the provider throttled `number`, with its hint, and returns for how long the number now pauses: at
    /// least the hint, at most a day. What pauses longer already is left as it is.
    pub(crate) async fn throttled(&self, number: &Number, hint: Option<Duration>) -> Result<Duration, Halt> {
        let hint = hint.map(|hint| hint.min(LONGEST_PAUSE)).filter(|hint| !hint.is_zero());
        loop {
            let Look { rest, record } = self.look(number).await?;
            let streak = record.as_ref().and_then(read).map_or(0, |pause| pause.streak);
            // Calls that were under way when the number was paused say nothing new, unless they name a later instant.
            if !rest.is_zero() && hint.unwrap_or_default() <= rest {
                return Ok(rest);
            }
            let streak = if rest.is_zero() { streak.saturating_add(1) } else { streak };
            let length = hint.unwrap_or_else(|| unhinted(streak)).max(rest);
            let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
            let pause = Pause { until: self.until(length), length_ms, streak };
            if self.put(number, Expect::unchanged(record.as_ref()), pause).await? == Written::Applied {
                let seen = Seen { version: None, ends: Instant::now() + length };
                self.seen().insert(number.clone(), seen);
                return Ok(length);
            }
        }
    }

    /// Forgets the pause that `look` found over, because the provider took a text since: the next one is short again.
    pub(crate) async fn lift(&self, number: &Number, look: &Look) -> Result<(), Halt> {
        let Some(record) = look.record.as_ref().filter(|_| look.rest.is_zero()) else { return Ok(()) };
        let delete = Write::delete(key(number), Expect::Version(record.version));
        self.store.commit(&[delete]).await.map(drop)
    }

    async fn put(&self, number: &Number, expect: Expect, pause: Pause) -> Result<Written, Halt> {
        // Numbers and a time: serialising cannot fail.
        let value = serde_json::to_vec(&pause).unwrap_or_default();
        self.store.commit(&[Write::put(key(number), expect, value, pause.length() + MEMORY)]).await
    }

    fn until(&self, length: Duration) -> Timestamp {
        self.clock.now().checked_add(length).unwrap_or(Timestamp::MAX)
    }

    /// What is left of a pause by the wall clock.
    fn left(&self, pause: Pause) -> Duration {
        Duration::try_from(pause.until.duration_since(self.clock.now())).unwrap_or_default()
    }

    /// How long `number` still pauses when `record` lies in the store.
    fn rest(&self, number: &Number, record: Option<&Record>) -> Duration {
        let (now, mut all) = (Instant::now(), self.seen());
        let known = all.get(number).copied();
        let news = record.filter(|record| known.is_none_or(|seen| seen.version != Some(record.version)));
        let ends = match news.and_then(|record| Some((record.version, read(record)?))) {
            Some((version, pause)) => {
                let ends = now + self.left(pause).min(pause.length());
                let ends = known.map_or(ends, |seen| seen.ends.max(ends));
                all.insert(number.clone(), Seen { version: Some(version), ends });
                Some(ends)
            }
            None => known.map(|seen| seen.ends),
        };
        ends.map_or(Duration::ZERO, |ends| ends.saturating_duration_since(now))
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Number, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number's own place, named like a conversation with itself, which no text ever has.
fn key((integration, ours): &Number) -> Key {
    let number = Conversation::new(ours.clone(), ours.clone()).key(integration);
    Key::new(format!("number/{}", number.to_hex()), "pause")
}

/// One that cannot be read pauses nobody: the provider will say it again.
fn read(record: &Record) -> Option<Pause> {
    serde_json::from_slice(&record.value).ok()
}

fn unhinted(streak: u32) -> Duration {
    FIRST.saturating_mul(1 << streak.saturating_sub(1).min(16)).min(LONGEST_UNHINTED)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use common::message::{Address, IntegrationId};
    use common::store::embedded::{Database, EmbeddedStore};

    use super::*;

    /// A store, and a wall clock that is set by hand.
    struct Stand {
        store: Arc<dyn Store>,
        second: Arc<AtomicI64>,
        clock: Clock,
    }

    impl Stand {
        fn new() -> Self {
            let second = Arc::new(AtomicI64::new(100_000));
            let read = Arc::clone(&second);
            let clock = Clock::from_fn(move || Timestamp::from_second(read.load(Ordering::SeqCst)).unwrap());
            let store = Arc::new(EmbeddedStore::new(Database::in_memory().unwrap(), clock.clone()));
            Self { store, second, clock }
        }

        fn process(&self) -> Pauses {
            Pauses::new(self.store.clone(), self.clock.clone(), Shutdown::new(Duration::ZERO))
        }

        fn set(&self, by_s: i64) {
            self.second.fetch_add(by_s, Ordering::SeqCst);
        }
    }

    fn number() -> Number {
        (IntegrationId::parse("support").unwrap(), Address::parse("+12125550100").unwrap())
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    async fn rest_s(pauses: &Pauses) -> u64 {
        pauses.look(&number()).await.unwrap().rest.as_secs_f64().ceil() as u64
    }

    #[tokio::test]
    async fn a_later_instant_wins_and_an_earlier_one_shortens_nothing() {
        let stand = Stand::new();
        let [one, another] = [stand.process(), stand.process()];
        assert_eq!(one.throttled(&number(), Some(seconds(600))).await.unwrap(), seconds(600));
        assert!(another.throttled(&number(), Some(seconds(10))).await.unwrap() > seconds(590));
        assert!(another.throttled(&number(), None).await.unwrap() > seconds(590));
        assert_eq!(another.throttled(&number(), Some(seconds(900))).await.unwrap(), seconds(900));
        for pauses in [one, another, stand.process()] {
            assert_eq!(rest_s(&pauses).await, 900);
        }
        let endless = stand.process().throttled(&number(), Some(Duration::MAX)).await.unwrap();
        assert_eq!(endless, seconds(24 * 3600), "no hint is believed for longer than a day");
    }

    #[tokio::test]
    async fn pauses_without_a_hint_double_until_a_text_is_accepted() {
        let stand = Stand::new();
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(stand.process().throttled(&number(), None).await.unwrap(), seconds(expected));
            assert!(stand.process().throttled(&number(), None).await.unwrap() <= seconds(expected), "told twice");
            stand.set(60);
        }
        let pauses = stand.process();
        let look = pauses.look(&number()).await.unwrap();
        pauses.lift(&number(), &look).await.unwrap();
        assert_eq!(pauses.throttled(&number(), None).await.unwrap(), seconds(1));
        let look = pauses.look(&number()).await.unwrap();
        pauses.lift(&number(), &look).await.unwrap();
        assert_eq!(rest_s(&stand.process()).await, 1, "who was accepted while the number pauses lifts nothing");
    }

    #[test]
    fn a_pause_that_an_earlier_release_wrote_is_read() {
        let value = include_bytes!("../../tests/fixtures/records/v1/pause.json").as_slice();
        let pause = read(&Record { value: value.into(), version: 1 }).unwrap();
        let until = "2026-11-22T10:30:00Z".parse().unwrap();
        assert_eq!(pause, Pause { until, length_ms: 3_600_000, streak: 2 });
    }

    #[tokio::test]
    async fn a_clock_that_is_set_neither_prolongs_nor_shortens_what_was_seen() {
        let stand = Stand::new();
        let [one, another] = [stand.process(), stand.process()];
        one.throttled(&number(), Some(seconds(600))).await.unwrap();
        assert_eq!(rest_s(&another).await, 600);
        for set in [-21_600, 43_200] {
            stand.set(set);
            assert_eq!((rest_s(&one).await, rest_s(&another).await), (600, 600), "set by {set} s");
        }
        stand.set(-43_200);
        assert_eq!(rest_s(&stand.process()).await, 600, "who starts later waits no longer than it was");
        stand.set(590);
        assert_eq!(rest_s(&stand.process()).await, 10, "and from then on the set clock counts");
    }
}
