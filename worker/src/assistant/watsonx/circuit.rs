//! A circuit breaker: a location that keeps failing is asked last and without retries for a while, so that turns do not
//! queue up behind its timeouts. Then one probe decides.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many turns in a row must fail before the circuit opens.
const THRESHOLD: u32 = 3;
/// How long until the next probe, 30 s.
const COOL_DOWN: Duration = Duration::from_secs(30);

/// The breaker of one location.
#[derive(Debug, Default)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
}

impl Circuit {
    /// Whether the location may be asked as usual. After a cool-down, the first caller gets `true` and is the probe;
    /// all others get `false` until its outcome is known, or until another cool-down is over.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.open_until {
            Some(until) if now < until => false,
            Some(_) => {
                state.open_until = Some(now + COOL_DOWN);
                true
            }
            None => true,
        }
    }

    /// The location answered.
    pub(super) fn succeeded(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// The location could not be reached.
    pub(super) fn failed(&self, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        if state.failures >= THRESHOLD {
            state.open_until = Some(now + COOL_DOWN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_in_a_row_one_probe_decides() {
        let (circuit, now) = (Circuit::default(), Instant::now());
        for _ in 0..THRESHOLD {
            assert!(circuit.admits(now));
            circuit.failed(now);
        }
        assert!(!circuit.admits(now));
        let later = now + COOL_DOWN;
        assert!(circuit.admits(later), "the probe");
        assert!(!circuit.admits(later), "nobody else meanwhile");
        circuit.succeeded();
        assert!(circuit.admits(later) && circuit.admits(later));
    }

    #[test]
    fn a_success_between_failures_starts_the_count_again() {
        let (circuit, now) = (Circuit::default(), Instant::now());
        for _ in 0..THRESHOLD {
            circuit.failed(now);
            circuit.succeeded();
        }
        assert!(circuit.admits(now));
    }
}
