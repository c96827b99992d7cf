//! Wall-clock time as a value that is passed in, so that tests decide what time it is.
//! Delays are slept with `tokio::time`, which tests can pause.
//!
//! A wall clock may be set while the process runs. Delays and waits are therefore measured in steady time, and ages
//! with care: see [`Clock::age`].

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
pub use jiff::Timestamp;
use tokio::time::Instant;

/// Tells the time. Cheap to clone.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// One moment in wall-clock time and in steady time.
    anchor: (Timestamp, Instant),
    slowest: Arc<Mutex<Slowest>>,
}

/// How far the wall clock was behind steady time when it was furthest behind, within the last `MEMORY`.
#[derive(Debug, Clone, Copy)]
struct Slowest {
    ahead: SignedDuration,
    until: Instant,
}

/// How long the furthest lag is remembered: a message stamped while the clock was wrong is seldom on its way for
/// longer.
const MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

impl Clock {
    /// The machine's clock.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the one place that asks the machine for the time")]
    pub fn system() -> Self {
        Self::from_fn(Timestamp::now)
    }

    /// A clock that asks `now`, for tests.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let anchor = (now(), Instant::now());
        let slowest = Slowest { ahead: SignedDuration::ZERO, until: anchor.1 + MEMORY };
        Self { now: Arc::new(now), anchor, slowest: Arc::new(Mutex::new(slowest)) }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.read(Instant::now()).0
    }

    /// How long ago `since` was, at least: a clock that is set forward, or right again after it was behind, makes
    /// nothing older. Zero for a moment in the future. An age that is too small because of this is so for a day at
    /// most.
    #[must_use]
    pub fn age(&self, since: Timestamp) -> Duration {
        let (now, slowest) = self.read(Instant::now());
        Duration::try_from(now.min(slowest).duration_since(since)).unwrap_or_default()
    }

    /// The time now, and the time by the clock as it was when it was furthest behind.
    fn read(&self, steady_now: Instant) -> (Timestamp, Timestamp) {
        let now = (self.now)();
        let (anchored_at, anchor) = self.anchor;
        let steady = anchored_at.checked_add(steady_now.saturating_duration_since(anchor)).unwrap_or(Timestamp::MAX);
        let ahead = now.duration_since(steady);
        let mut slowest = self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
        if ahead <= slowest.ahead || steady_now >= slowest.until {
            *slowest = Slowest { ahead, until: steady_now + MEMORY };
        }
        (now, steady.checked_add(slowest.ahead).unwrap_or(now))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[test]
    fn a_clock_that_is_set_makes_nothing_older() {
        let second = Arc::new(AtomicI64::new(100_000));
        let read = Arc::clone(&second);
        let clock = Clock::from_fn(move || Timestamp::from_second(read.load(Ordering::SeqCst)).unwrap());
        let set = |now| second.store(now, Ordering::SeqCst);
        let age_s = |since| clock.age(Timestamp::from_second(since).unwrap()).as_secs_f64().round();
        assert_eq!(age_s(40_000), 60_000.0, "what was before is judged by the wall clock");
        for (now, expected) in [(121_600, 1_000.0), (100_000, 1_000.0), (78_400, 0.0)] {
            set(now);
            assert_eq!(age_s(99_000), expected, "at {now}");
        }
        set(100_000);
        assert_eq!(age_s(78_400), 0.0, "it was told while the clock was behind");
        assert_eq!(age_s(70_000), 8_400.0, "this was not, and is a little too young");
        let tomorrow = Instant::now() + MEMORY;
        set(186_400);
        clock.read(tomorrow + Duration::from_secs(1));
        assert!(clock.slowest.lock().unwrap().ahead.abs() < SignedDuration::from_secs(5), "forgotten after a day");
    }
}
