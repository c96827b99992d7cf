//! How fast each of our numbers may send. Providers queue short bursts themselves, so a minute's worth may go at once;
//! what goes on longer is held to the configured rate, and when a number's pause ends not everything goes at once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::message::{Address, IntegrationId};
use tokio::time::Instant;

/// How much may go at once, in sending time.
const BURST: Duration = Duration::from_secs(60);
/// What waits longer is parked at the broker, so that one busy number leaves room for the others.
const PATIENCE: Duration = Duration::from_secs(5);
/// No hint of a provider's holds a number longer.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// A number of ours on an integration.
pub(crate) type Number = (IntegrationId, Address);

/// The pace of each number in this process.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<Number, Queue>>);

/// How far ahead a number's places are taken. Without bursts it would be idle from these times on.
#[derive(Debug, Clone, Copy)]
struct Queue {
    /// By what may go.
    busy_until: Instant,
    /// By what was told to come later, too: so that not everything comes back at once.
    awaited_until: Instant,
}

/// When a text may go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// After this long; its place is taken.
    In(Duration),
    /// Not soon: ask again after this long.
    Later(Duration),
}

impl Rates {
    /// Takes the next place of `number` at `now` for a text that takes `cost` of sending time.
    pub(crate) fn take(&self, number: Number, cost: Duration, now: Instant) -> Turn {
        self.with(number, now, |queue| {
            let wait = |place: Instant| place.saturating_duration_since(now).saturating_sub(BURST);
            if wait(queue.busy_until) <= PATIENCE {
                let place = wait(queue.busy_until);
                queue.busy_until = queue.busy_until.max(now) + cost;
                return Turn::In(place);
            }
            let place = queue.awaited_until.max(queue.busy_until);
            // What is not waited for any longer is not planned for either.
            queue.awaited_until = if wait(place) < LONGEST_PAUSE { place + cost } else { place };
            Turn::Later(wait(place))
        })
    }

    /// Holds everything of `number` back for `pause` (at most a day) from `now`, without a burst after it.
    pub(crate) fn pause(&self, number: Number, pause: Duration, now: Instant) {
        let until = now + BURST + pause.min(LONGEST_PAUSE);
        self.with(number, now, |queue| queue.busy_until = queue.busy_until.max(until));
    }

    fn with<T>(&self, number: Number, now: Instant, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(number).or_insert(Queue { busy_until: now, awaited_until: now }))
    }
}

/// The sending time of `segments` at `rate_per_second`, at most an hour.
pub(crate) fn cost(segments: usize, rate_per_second: f64) -> Duration {
    const MOST: Duration = Duration::from_secs(3600);
    let segments = u32::try_from(segments).unwrap_or(u32::MAX);
    Duration::try_from_secs_f64(f64::from(segments) / rate_per_second).map_or(MOST, |cost| cost.min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn number(last_digit: u8) -> Number {
        let number = Address::parse(&format!("+1212555010{last_digit}")).unwrap();
        (IntegrationId::parse("support").unwrap(), number)
    }

    #[test]
    fn a_minutes_worth_goes_at_once_and_the_rest_at_the_rate() {
        let (rates, now) = (Rates::default(), Instant::now());
        for _ in 0..61 {
            assert_eq!(rates.take(number(0), SECOND, now), Turn::In(Duration::ZERO));
        }
        for seconds in 1..=5 {
            assert_eq!(rates.take(number(0), SECOND, now), Turn::In(seconds * SECOND));
        }
        for seconds in 6..=9 {
            assert_eq!(rates.take(number(0), SECOND, now), Turn::Later(seconds * SECOND), "one after the other");
        }
        assert_eq!(rates.take(number(1), SECOND, now), Turn::In(Duration::ZERO), "another number is free");
        assert_eq!(rates.take(number(0), SECOND, now + 6 * SECOND), Turn::In(Duration::ZERO));
    }

    #[test]
    fn a_pause_holds_the_whole_number_and_ends() {
        let (rates, now) = (Rates::default(), Instant::now());
        rates.pause(number(0), 30 * SECOND, now);
        assert_eq!(rates.take(number(0), SECOND, now), Turn::Later(30 * SECOND));
        assert_eq!(rates.take(number(1), SECOND, now), Turn::In(Duration::ZERO));
        assert_eq!(rates.take(number(0), SECOND, now + 27 * SECOND), Turn::In(3 * SECOND));
        rates.pause(number(0), SECOND, now + 27 * SECOND);
        assert_eq!(
            rates.take(number(0), SECOND, now + 31 * SECOND),
            Turn::In(Duration::ZERO),
            "a pause is not added up"
        );
    }

    #[test]
    fn costs_follow_the_rate_and_stay_finite() {
        assert_eq!(cost(3, 2.0), Duration::from_millis(1500));
        for rate in [0.0, -1.0, f64::NAN, f64::MIN_POSITIVE] {
            assert_eq!(cost(1, rate), Duration::from_secs(3600), "{rate}");
        }
        assert_eq!(cost(1, f64::INFINITY), Duration::ZERO);
    }
}
