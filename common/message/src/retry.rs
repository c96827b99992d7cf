//! Delays between attempts: exponential, with jitter, a provider's hint as their floor.
//!
//! The only file that names the `backoff` crate, which is unmaintained (RUSTSEC-2025-0012, see `deny.toml`): replacing
//! it means rewriting this file and nothing else.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// How delays grow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// The first delay, before jitter.
    pub initial: Duration,
    /// No delay is longer, unless a hint asks for it.
    pub max: Duration,
}

impl RetryPolicy {
    /// For calls to servers of our own: 100 ms to 2 s.
    pub const NEAR: Self = Self { initial: Duration::from_millis(100), max: Duration::from_secs(2) };
    /// For reconnecting to a broker that went away: 100 ms to 500 ms. A refused attempt costs both sides next to
    /// nothing, and all work waits for the connection.
    pub const RECONNECT: Self = Self { initial: Duration::from_millis(100), max: Duration::from_millis(500) };
    /// For calls to external APIs: 500 ms to 30 s.
    pub const FAR: Self = Self { initial: Duration::from_millis(500), max: Duration::from_secs(30) };

    /// A new sequence of delays.
    #[must_use]
    pub fn start(self) -> Backoff {
        let inner = ExponentialBackoff {
            current_interval: self.initial,
            initial_interval: self.initial,
            randomization_factor: 0.5,
            multiplier: 2.0,
            max_interval: self.max,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Backoff { inner, max: self.max }
    }
}

/// A sequence of growing delays.
#[derive(Debug)]
pub struct Backoff {
    inner: ExponentialBackoff,
    max: Duration,
}

impl Backoff {
    /// The next delay: at least `hint`, and otherwise between half and one and a half times the current step, at most
    /// the policy's maximum.
    pub fn next_delay(&mut self, hint: Option<Duration>) -> Duration {
        let delay = self.inner.next_backoff().unwrap_or(self.max).min(self.max);
        delay.max(hint.unwrap_or_default())
    }

    /// Begins again with the first delay, after a success.
    pub fn reset(&mut self) {
        self.inner.reset();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn delays_stay_within_bounds_and_honour_the_hint(initial_ms in 1_u64..5_000, factor in 1_u64..100, hint_ms in proptest::option::of(0_u64..100_000)) {
            let policy = RetryPolicy { initial: Duration::from_millis(initial_ms), max: Duration::from_millis(initial_ms * factor) };
            let hint = hint_ms.map(Duration::from_millis);
            let mut backoff = policy.start();
            for _ in 0..20 {
                let delay = backoff.next_delay(hint);
                prop_assert!(delay >= hint.unwrap_or_default());
                prop_assert!(delay <= policy.max.max(hint.unwrap_or_default()));
                prop_assert!(delay >= policy.initial / 2 - Duration::from_micros(1));
            }
        }
    }

    #[test]
    fn delays_grow_and_begin_again_after_a_reset() {
        let mut backoff = RetryPolicy { initial: Duration::from_millis(100), max: Duration::from_secs(60) }.start();
        let delays: Vec<_> = (0..8).map(|_| backoff.next_delay(None)).collect();
        assert!(delays[7] > delays[0] * 10, "{delays:?}");
        backoff.reset();
        assert!(backoff.next_delay(None) <= Duration::from_millis(150));
    }
}
