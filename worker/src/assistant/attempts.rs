//! The failed calls of a turn, so that a dead letter keeps every attempt and not only the last.

use std::sync::{Mutex, PoisonError};

use message::Attempt;
use message::clock::Clock;
use message::failure::Failure;

/// Collects the failed calls of one turn.
#[derive(Debug)]
pub struct Attempts {
    clock: Clock,
    failed: Mutex<Vec<Attempt>>,
}

impl Attempts {
    /// Starts without any attempt.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, failed: Mutex::default() }
    }

    /// Adds one that failed just now.
    pub fn record(&self, failure: &Failure) {
        let attempt =
            Attempt { at: self.clock.now(), kind: failure.kind, code: failure.code.clone(), what: failure.to_string() };
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(attempt);
    }

    /// Returns all of them, oldest first; `last` if there was none, so that a failed turn never looks untried.
    #[must_use]
    pub fn into_failed(self, last: &Failure) -> Vec<Attempt> {
        if self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.record(last);
        }
        self.failed.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
