//! Whether a stage moves: what this process holds, and when it last settled something.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;

/// Written by the run loop, read by readiness checks.
#[derive(Debug, Default)]
pub struct Progress {
    messages: AtomicU64,
    bytes: AtomicU64,
    resting: AtomicU64,
    moved_at_ms: AtomicI64,
}

/// What a process holds of a stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// How many messages: waiting in lanes, resting or being handled.
    pub messages: u64,
    /// How many bytes of payload they have.
    pub bytes: u64,
    /// How many lanes rest until their first message is tried again.
    pub resting: u64,
}

impl Progress {
    /// Notes what is `held`, and whether something was decided since the last time: settled, or to rest.
    pub(super) fn hold(&self, held: Held, has_moved: bool, now: Timestamp) {
        let before = self.messages.swap(held.messages, Ordering::Relaxed);
        self.bytes.store(held.bytes, Ordering::Relaxed);
        self.resting.store(held.resting, Ordering::Relaxed);
        // A stage that was empty begins to count from its first message.
        if before == 0 || has_moved {
            self.moved_at_ms.store(now.as_millisecond(), Ordering::Relaxed);
        }
    }

    /// What this process holds.
    #[must_use]
    pub fn held(&self) -> Held {
        Held {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            resting: self.resting.load(Ordering::Relaxed),
        }
    }

    /// Whether messages wait and none has moved for at least `limit`.
    #[must_use]
    pub fn is_stuck(&self, now: Timestamp, limit: Duration) -> bool {
        let still_ms = now.as_millisecond() - self.moved_at_ms.load(Ordering::Relaxed);
        self.held().messages > 0 && u128::try_from(still_ms).is_ok_and(|ms| ms >= limit.as_millis())
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
        let hold = |messages, has_moved, now| progress.hold(Held { messages, ..Held::default() }, has_moved, now);
        hold(1, false, at(1000));
        hold(2, false, at(1030));
        assert!(!progress.is_stuck(at(1059), limit));
        assert!(progress.is_stuck(at(1060), limit), "a message more is no progress");
        hold(2, true, at(1070));
        assert!(!progress.is_stuck(at(1100), limit), "a decision to rest is progress too");
    }
}
