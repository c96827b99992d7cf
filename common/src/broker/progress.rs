//! Whether a stage moves: what this process holds, and when it last settled something.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;

/// Written by the run loop, read by readiness checks.
#[derive(Debug, Default)]
pub struct Progress {
    held: AtomicU64,
    moved_at_ms: AtomicI64,
}

impl Progress {
    pub(super) fn hold(&self, held: usize, now: Timestamp) {
        let before = self.held.swap(held as u64, Ordering::Relaxed);
        // A stage that was empty begins to count from its first message.
        if before == 0 || held as u64 <= before {
            self.moved_at_ms.store(now.as_millisecond(), Ordering::Relaxed);
        }
    }

    /// How many messages this process holds: waiting in lanes or being handled.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether messages wait and none has moved for at least `limit`.
    #[must_use]
    pub fn is_stuck(&self, now: Timestamp, limit: Duration) -> bool {
        let still_ms = now.as_millisecond() - self.moved_at_ms.load(Ordering::Relaxed);
        self.held() > 0 && u128::try_from(still_ms).is_ok_and(|ms| ms >= limit.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_stuck_when_it_holds_messages_and_none_move() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let limit = Duration::from_secs(60);
        let progress = Progress::default();
        assert!(!progress.is_stuck(at(1000), limit), "an empty stage is idle, not stuck");
        progress.hold(1, at(1000));
        progress.hold(2, at(1030));
        assert!(!progress.is_stuck(at(1059), limit));
        assert!(progress.is_stuck(at(1060), limit), "a message more is no progress");
        progress.hold(1, at(1070));
        assert!(!progress.is_stuck(at(1100), limit), "one was settled");
    }
}
