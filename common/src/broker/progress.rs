//! Whether a stage moves: what this process holds, and when it last settled something.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Written by the run loop, read by readiness checks. In steady time: a clock that is set makes nothing stuck.
#[derive(Debug, Default)]
pub struct Progress {
    held: AtomicU64,
    moved_at: Mutex<Option<Instant>>,
}

impl Progress {
    pub(super) fn hold(&self, held: usize, now: Instant) {
        let before = self.held.swap(held as u64, Ordering::Relaxed);
        // A stage that was empty begins to count from its first message.
        if before == 0 || held as u64 <= before {
            *self.moved_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        }
    }

    /// How many messages this process holds: waiting in lanes or being handled.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether messages wait and none has moved for at least `limit`.
    #[must_use]
    pub fn is_stuck(&self, now: Instant, limit: Duration) -> bool {
        let moved_at = *self.moved_at.lock().unwrap_or_else(PoisonError::into_inner);
        self.held() > 0 && moved_at.is_some_and(|moved_at| now.saturating_duration_since(moved_at) >= limit)
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
        progress.hold(1, at(0));
        progress.hold(2, at(30));
        assert!(!progress.is_stuck(at(59), limit));
        assert!(progress.is_stuck(at(60), limit), "a message more is no progress");
        progress.hold(1, at(70));
        assert!(!progress.is_stuck(at(100), limit), "one was settled");
    }
}
