//! Whether a stage moves: what this process holds, and when it last settled something.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Written by the run loop, read by readiness checks. In steady time: a clock that is set makes nothing stuck.
#[derive(Debug, Default)]
pub struct Progress {
    messages: AtomicU64,
    bytes: AtomicU64,
    resting: AtomicU64,
    moved_at: Mutex<Option<Instant>>,
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
    pub(super) fn hold(&self, held: Held, has_moved: bool, now: Instant) {
        let before = self.messages.swap(held.messages, Ordering::Relaxed);
        self.bytes.store(held.bytes, Ordering::Relaxed);
        self.resting.store(held.resting, Ordering::Relaxed);
        // A stage that was empty begins to count from its first message.
        if before == 0 || has_moved {
            *self.moved_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
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
    pub fn is_stuck(&self, now: Instant, limit: Duration) -> bool {
        let moved_at = *self.moved_at.lock().unwrap_or_else(PoisonError::into_inner);
        self.held().messages > 0 && moved_at.is_some_and(|moved_at| now.saturating_duration_since(moved_at) >= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_stuck_when_it_holds_messages_and_none_move() {
        let started = Instant::now();
        let at = |second| started + Duration::from_secs(second);
        let limit = Duration::from_secs(60);
        let progress = Progress::default();
        assert!(!progress.is_stuck(at(0), limit), "an empty stage is idle, not stuck");
        let hold = |messages, has_moved, now| progress.hold(Held { messages, ..Held::default() }, has_moved, now);
        hold(1, false, at(0));
        hold(2, false, at(30));
        assert!(!progress.is_stuck(at(59), limit));
        assert!(progress.is_stuck(at(60), limit), "a message more is no progress");
        hold(2, true, at(70));
        assert!(!progress.is_stuck(at(100), limit), "a decision to rest is progress too");
    }
}
