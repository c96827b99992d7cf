//! Whether a stage moves: what this process holds, when it last settled something, and when something last came out of
//! its partitions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::Stage;
use message::clock::Timestamp;
use tokio::time::Instant;

/// Written by the run loop, read by readiness checks. Kept in steady time, so that setting the clock makes no stage
/// look stuck.
#[derive(Debug, Default)]
pub struct Progress {
    messages: AtomicU64,
    bytes: AtomicU64,
    resting: AtomicU64,
    oldest: Mutex<Option<Timestamp>>,
    moved_at: Mutex<Option<Instant>>,
    pulse: Mutex<Option<Pulse>>,
}

/// The messages of a stage that a process holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// How many messages: waiting in lanes, resting or being handled.
    pub messages: u64,
    /// How many bytes of payload they have.
    pub bytes: u64,
    /// How many lanes rest until their first message is tried again.
    pub resting: u64,
    /// When the oldest of the messages was accepted or last replayed; `None` if there is none that can be read.
    pub oldest: Option<Timestamp>,
}

/// What is known of the heartbeats of a stage, in every process that works on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulse {
    /// Since when this process knows that the round has begun.
    pub(super) round_began: Instant,
    /// How long a round takes, at least.
    pub(super) every: Duration,
    /// For each partition, how many rounds ago its newest heartbeat was published, and how many ago anything came.
    pub(super) rounds_missed: Vec<(u32, u32)>,
}

impl Pulse {
    /// How long ago the newest heartbeat that came out of each partition was published, at least, and to within a
    /// round.
    #[must_use]
    pub fn ages(&self, now: Instant) -> Vec<Duration> {
        self.rounds_missed.iter().map(|(heartbeat, _)| self.ago(*heartbeat, now)).collect()
    }

    /// The partitions from which nothing has come for at least `limit`, neither heartbeat nor message, and for how
    /// long.
    #[must_use]
    pub fn silent(&self, now: Instant, limit: Duration) -> Vec<(usize, Duration)> {
        let silences = self.rounds_missed.iter().map(|(_, anything)| self.ago(*anything, now)).enumerate();
        silences.filter(|(_, silence)| *silence >= limit).collect()
    }

    fn ago(&self, rounds: u32, now: Instant) -> Duration {
        self.every.saturating_mul(rounds).saturating_add(now.saturating_duration_since(self.round_began))
    }
}

impl Progress {
    /// Records what is `held`, and whether something was decided since the last time: settled, or to rest.
    pub(super) fn hold(&self, held: Held, has_moved: bool, now: Instant) {
        let before = self.messages.swap(held.messages, Ordering::Relaxed);
        self.bytes.store(held.bytes, Ordering::Relaxed);
        self.resting.store(held.resting, Ordering::Relaxed);
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = held.oldest;
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
            oldest: *self.oldest.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Records what is known of the heartbeats; `None` while the store cannot be read.
    pub(super) fn set_pulse(&self, pulse: Option<Pulse>) {
        *self.pulse.lock().unwrap_or_else(PoisonError::into_inner) = pulse;
    }

    /// What is known of the heartbeats; `None` before the first, and while it is not known.
    #[must_use]
    pub fn pulse(&self) -> Option<Pulse> {
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether messages wait and none has moved for at least `limit`.
    #[must_use]
    pub fn is_stuck(&self, now: Instant, limit: Duration) -> bool {
        let moved_at = *self.moved_at.lock().unwrap_or_else(PoisonError::into_inner);
        self.held().messages > 0 && moved_at.is_some_and(|moved_at| now.saturating_duration_since(moved_at) >= limit)
    }
}

/// One [`Progress`] for each stage. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StageProgress {
    inbound: Arc<Progress>,
    outbound: Arc<Progress>,
    receipts: Arc<Progress>,
}

impl StageProgress {
    /// The progress of `stage`.
    #[must_use]
    pub fn of(&self, stage: Stage) -> Arc<Progress> {
        Arc::clone(match stage {
            Stage::Inbound => &self.inbound,
            Stage::Outbound => &self.outbound,
            Stage::Receipts => &self.receipts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_silent_when_neither_heartbeat_nor_message_came() {
        let (began, every) = (Instant::now(), Duration::from_secs(15));
        let pulse = Pulse { round_began: began, every, rounds_missed: vec![(0, 0), (9, 0), (9, 9)] };
        let now = began + Duration::from_secs(5);
        assert_eq!(pulse.ages(now), [5, 140, 140].map(Duration::from_secs));
        let silent = pulse.silent(now, Duration::from_secs(120));
        assert_eq!(silent, [(2, Duration::from_secs(140))], "a backlog is no silence");
    }

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
