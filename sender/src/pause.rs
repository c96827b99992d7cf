//! How long nothing is sent between two numbers, from one of ours, or with a provider account, because the provider
//! throttled it. The end of a pause lies in the store, so that every sender keeps to it, also one that starts later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use integration::Integration;
use message::clock::{Clock, Timestamp};
use message::failure::Scope;
use message::shutdown::Shutdown;
use message::{Conversation, Envelope};
use providers::ProviderSettings;
use serde::{Deserialize, Serialize};
use store::{CommitOutcome, Expect, Interrupted, Key, Record, RetryingStore, Store, Write};
use tokio::time::Instant;

use crate::rate::LONGEST_PAUSE;

/// The pause where the provider names none, 1 s; it doubles while the provider goes on throttling.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause without a hint, 60 s.
const LONGEST_UNHINTED: Duration = Duration::from_secs(60);
/// How long after its end a pause is remembered, 10 min: a throttle within that time pauses for twice as long.
const MEMORY: Duration = Duration::from_secs(10 * 60);

/// If a pause is longer by our clock than its length by this much, 1 s, the clock was set back; less is the difference
/// between two machines.
const SET_BACK: Duration = Duration::from_secs(1);

/// Above this many entries, stale ones are swept: pauses that are long over.
const MANY: usize = 4096;

/// A pause, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Pause {
    /// Until then no sender sends.
    until: Timestamp,
    /// The length of the pause when it was written: a clock that is set back does not make it longer.
    length_ms: u64,
    /// How many pauses followed each other without a text accepted between them, this one included.
    streak: u32,
}

impl Pause {
    fn length(&self) -> Duration {
        Duration::from_millis(self.length_ms).min(LONGEST_PAUSE)
    }
}

/// The keys of a part's pauses: its pair of numbers, our number, and the account, in the order of [`Scope`].
#[derive(Debug)]
pub(crate) struct Limits([Key; 3]);

/// The pauses of all limits.
#[derive(Debug)]
pub(crate) struct Pauses {
    store: RetryingStore,
    clock: Clock,
    seen: Mutex<HashMap<Key, Seen>>,
}

/// The pause that this process knows of. Its end is kept in steady time, because the wall clock may be set in between.
#[derive(Debug, Clone, Copy)]
struct Seen {
    version: Option<u64>,
    ends: Instant,
}

/// What a look at the pauses of a part found.
#[derive(Debug)]
pub(crate) struct Look([Found; 3]);

/// One pause that was looked at.
#[derive(Debug)]
struct Found {
    /// For how long nothing is sent.
    rest: Duration,
    record: Option<Record>,
}

impl Limits {
    /// The limits of a part that goes out through `integration`.
    pub(crate) fn of(envelope: &Envelope, integration: &Integration) -> Self {
        // A number's key is named like a conversation of the number with itself, which no text ever has.
        let ours = envelope.conversation.ours.clone();
        let number = Conversation::new(ours.clone(), ours).key(&integration.id);
        let account = match &integration.provider {
            ProviderSettings::Twilio(settings) => format!("account/twilio/{}", settings.account_sid),
            // IntelePeer's accounts have no public name.
            ProviderSettings::Intelepeer(_) => format!("account/intelepeer/{}", integration.id),
        };
        let scopes = [envelope.key().to_hex(), format!("number/{}", number.to_hex()), account];
        Self(scopes.map(|scope| Key::new(scope, "pause")))
    }

    fn key(&self, scope: Scope) -> &Key {
        &self.0[scope as usize]
    }
}

impl Look {
    /// How long nothing is sent in `scope`.
    pub(crate) fn rest(&self, scope: Scope) -> Duration {
        self.0[scope as usize].rest
    }
}

impl Pauses {
    /// The pauses in `store`. While the store is unreachable, every method waits, until `shutdown`.
    pub(crate) fn new(store: Arc<dyn Store>, clock: Clock, shutdown: Shutdown) -> Self {
        Self { store: RetryingStore::new(store, shutdown), clock, seen: Mutex::default() }
    }

    /// How long a part has to pause, as far as any sender knows.
    pub(crate) async fn look(&self, limits: &Limits) -> Result<Look, Interrupted> {
        let [pair, number, account] = &limits.0;
        let found = tokio::try_join!(self.find(pair), self.find(number), self.find(account))?;
        Ok(Look(found.into()))
    }

    async fn find(&self, key: &Key) -> Result<Found, Interrupted> {
        let [record] = self.store.get([key.clone()]).await?;
        let rest = self.rest(key, record.as_ref());
        if let Some((record, pause)) = record.as_ref().and_then(|record| Some((record, read(record)?)))
            && self.left(pause) > pause.length() + SET_BACK
        {
            // The clock was set back since, so the pause is shortened: a sender that starts later must see no more than
            // is left.
            self.put(key, Expect::Version(record.version), Pause { until: self.until(rest), ..pause }).await?;
        }
        Ok(Found { rest, record })
    }

    /// Records that the provider throttled `scope`, with its hint, and returns for how long the scope now pauses: at
    /// least the hint, at most a day. A longer pause that exists is left as it is.
    pub(crate) async fn throttled(
        &self,
        limits: &Limits,
        scope: Scope,
        hint: Option<Duration>,
    ) -> Result<Duration, Interrupted> {
        let key = limits.key(scope);
        let hint = hint.map(|hint| hint.min(LONGEST_PAUSE)).filter(|hint| !hint.is_zero());
        loop {
            let Found { rest, record } = self.find(key).await?;
            let streak = record.as_ref().and_then(read).map_or(0, |pause| pause.streak);
            // Calls that were under way when the pause began say nothing new, unless they name a later instant.
            if !rest.is_zero() && hint.unwrap_or_default() <= rest {
                return Ok(rest);
            }
            let streak = if rest.is_zero() { streak.saturating_add(1) } else { streak };
            let length = hint.unwrap_or_else(|| unhinted(streak)).max(rest);
            let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
            let pause = Pause { until: self.until(length), length_ms, streak };
            if self.put(key, Expect::unchanged(record.as_ref()), pause).await? == CommitOutcome::Applied {
                self.remember(key, Seen { version: None, ends: Instant::now() + length });
                return Ok(length);
            }
        }
    }

    /// Deletes the pauses that `look` found over, because the provider took a text since: the next pauses are short
    /// again.
    pub(crate) async fn lift(&self, limits: &Limits, look: &Look) -> Result<(), Interrupted> {
        for (key, found) in limits.0.iter().zip(&look.0) {
            if let Some(record) = found.record.as_ref().filter(|_| found.rest.is_zero()) {
                let delete = Write::delete(key.clone(), Expect::Version(record.version));
                self.store.commit(&[delete]).await?;
            }
        }
        Ok(())
    }

    async fn put(&self, key: &Key, expect: Expect, pause: Pause) -> Result<CommitOutcome, Interrupted> {
        // Numbers and a time: serialising cannot fail.
        let value = serde_json::to_vec(&pause).unwrap_or_default();
        self.store.commit(&[Write::put(key.clone(), expect, value, pause.length() + MEMORY)]).await
    }

    fn until(&self, length: Duration) -> Timestamp {
        self.clock.now().checked_add(length).unwrap_or(Timestamp::MAX)
    }

    /// What is left of a pause by the wall clock.
    fn left(&self, pause: Pause) -> Duration {
        Duration::try_from(pause.until.duration_since(self.clock.now())).unwrap_or_default()
    }

    /// How long the scope of `key` still pauses when `record` lies in the store.
    fn rest(&self, key: &Key, record: Option<&Record>) -> Duration {
        let now = Instant::now();
        let known = self.seen().get(key).copied();
        let news = record.filter(|record| known.is_none_or(|seen| seen.version != Some(record.version)));
        let ends = match news.and_then(|record| Some((record.version, read(record)?))) {
            Some((version, pause)) => {
                let ends = now + self.left(pause).min(pause.length());
                let ends = known.map_or(ends, |seen| seen.ends.max(ends));
                self.remember(key, Seen { version: Some(version), ends });
                Some(ends)
            }
            None => known.map(|seen| seen.ends),
        };
        ends.map_or(Duration::ZERO, |ends| ends.saturating_duration_since(now))
    }

    fn remember(&self, key: &Key, seen: Seen) {
        let (now, mut all) = (Instant::now(), self.seen());
        if all.len() >= MANY && !all.contains_key(key) {
            all.retain(|_, seen| now < seen.ends + MEMORY);
        }
        all.insert(key.clone(), seen);
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Key, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An unreadable pause pauses no sender: the provider will throttle again.
fn read(record: &Record) -> Option<Pause> {
    serde_json::from_slice(&record.value).ok()
}

fn unhinted(streak: u32) -> Duration {
    FIRST.saturating_mul(1 << streak.saturating_sub(1).min(16)).min(LONGEST_UNHINTED)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use embedded::{Database, EmbeddedStore};

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

    fn limits(pair: &str, number: &str, account: &str) -> Limits {
        Limits([pair, number, account].map(|scope| Key::new(scope, "pause")))
    }

    fn one() -> Limits {
        limits("pair", "number", "account")
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    async fn rest_s(pauses: &Pauses) -> u64 {
        pauses.look(&one()).await.unwrap().rest(Scope::Number).as_secs_f64().ceil() as u64
    }

    #[tokio::test]
    async fn a_later_instant_wins_and_an_earlier_one_shortens_nothing() {
        let stand = Stand::new();
        let [first, another] = [stand.process(), stand.process()];
        assert_eq!(first.throttled(&one(), Scope::Number, Some(seconds(600))).await.unwrap(), seconds(600));
        assert!(another.throttled(&one(), Scope::Number, Some(seconds(10))).await.unwrap() > seconds(590));
        assert!(another.throttled(&one(), Scope::Number, None).await.unwrap() > seconds(590));
        assert_eq!(another.throttled(&one(), Scope::Number, Some(seconds(900))).await.unwrap(), seconds(900));
        for pauses in [first, another, stand.process()] {
            assert_eq!(rest_s(&pauses).await, 900);
        }
        let endless = stand.process().throttled(&one(), Scope::Number, Some(Duration::MAX)).await.unwrap();
        assert_eq!(endless, seconds(24 * 3600), "no hint is believed for longer than a day");
    }

    #[tokio::test]
    async fn pauses_without_a_hint_double_until_a_text_is_accepted() {
        let stand = Stand::new();
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(stand.process().throttled(&one(), Scope::Number, None).await.unwrap(), seconds(expected));
            assert!(
                stand.process().throttled(&one(), Scope::Number, None).await.unwrap() <= seconds(expected),
                "told twice"
            );
            stand.set(60);
        }
        let pauses = stand.process();
        let look = pauses.look(&one()).await.unwrap();
        pauses.lift(&one(), &look).await.unwrap();
        assert_eq!(pauses.throttled(&one(), Scope::Number, None).await.unwrap(), seconds(1));
        let look = pauses.look(&one()).await.unwrap();
        pauses.lift(&one(), &look).await.unwrap();
        assert_eq!(rest_s(&stand.process()).await, 1, "who was accepted while the number pauses lifts nothing");
    }

    #[tokio::test]
    async fn t5_a_pause_holds_what_it_concerns_and_nothing_else() {
        let stand = Stand::new();
        let all = [Scope::Pair, Scope::Number, Scope::Account];
        for (scope, hint_s) in all.into_iter().zip([30, 60, 3600]) {
            stand.process().throttled(&one(), scope, Some(seconds(hint_s))).await.unwrap();
        }
        let cases = [
            (one(), [30, 60, 3600]),
            (limits("another", "number", "account"), [0, 60, 3600]),
            (limits("another", "another", "account"), [0, 0, 3600]),
            (limits("another", "another", "another"), [0, 0, 0]),
        ];
        for (limits, expected_s) in cases {
            let look = stand.process().look(&limits).await.unwrap();
            let rests_s = all.map(|scope| look.rest(scope).as_secs_f64().ceil() as u64);
            assert_eq!(rests_s, expected_s, "{limits:?}");
        }
        stand.set(61);
        let pauses = stand.process();
        let look = pauses.look(&one()).await.unwrap();
        pauses.lift(&one(), &look).await.unwrap();
        let found = pauses.look(&one()).await.unwrap().0.map(|found| found.record.is_some());
        assert_eq!(found, [false, false, true], "what is over is lifted");
    }

    #[tokio::test]
    async fn g8_pauses_of_pairs_are_not_remembered_for_ever() {
        let stand = Stand::new();
        let pauses = stand.process();
        let old = Seen { version: None, ends: Instant::now().checked_sub(2 * MEMORY).unwrap() };
        for index in 0..2 * MANY {
            pauses.remember(&Key::new(index.to_string(), "pause"), old);
            assert!(pauses.seen().len() <= MANY);
        }
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
        let [first, another] = [stand.process(), stand.process()];
        first.throttled(&one(), Scope::Number, Some(seconds(600))).await.unwrap();
        assert_eq!(rest_s(&another).await, 600);
        for set in [-21_600, 43_200] {
            stand.set(set);
            assert_eq!((rest_s(&first).await, rest_s(&another).await), (600, 600), "set by {set} s");
        }
        stand.set(-43_200);
        assert_eq!(rest_s(&stand.process()).await, 600, "who starts later waits no longer than it was");
        stand.set(590);
        assert_eq!(rest_s(&stand.process()).await, 10, "and from then on the set clock counts");
    }
}
