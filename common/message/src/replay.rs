//! Replays: an operator took a message from the dead letters and published it again. The envelope says who, when and
//! why, so that ledgers can tell a replay from a redelivery and age and attempts count anew.

use serde::{Deserialize, Serialize};

use super::{Attempt, Body, Envelope};
use crate::clock::Timestamp;

/// One replay of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// When it was replayed.
    pub at: Timestamp,
    /// The operator who asked for it, such as `user@host`.
    pub by: String,
    /// The reason that the dead letter had.
    pub reason: String,
    /// How many attempts had failed by then; those after it belong to this replay.
    pub attempts_before: usize,
    /// The message that caused this one was replayed, not this one: its age counts from the replay, nothing else does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inherited: bool,
}

impl Replay {
    /// This replay, as recorded in a message that the replayed one causes.
    pub(super) fn inherited(&self) -> Self {
        Self { attempts_before: 0, inherited: true, ..self.clone() }
    }
}

impl Envelope {
    /// Notes that `by` replays this message at `at`, and with it the texts that joined it. It was a dead letter for
    /// `reason`.
    pub fn replay(&mut self, at: Timestamp, by: &str, reason: &str) {
        let replay = |attempts_before| Replay {
            at,
            by: by.to_owned(),
            reason: reason.to_owned(),
            attempts_before,
            inherited: false,
        };
        self.replays.push(replay(self.attempts.len()));
        if let Body::Inbound(inbound) = &mut self.body {
            for joined in &mut inbound.joined {
                joined.replays.push(replay(joined.attempts.len()));
            }
        }
    }

    /// How often an operator replayed this very message.
    #[must_use]
    pub fn times_replayed(&self) -> usize {
        self.replays.iter().filter(|replay| !replay.inherited).count()
    }

    /// The attempts that have failed since it was last replayed, or all if it never was.
    #[must_use]
    pub fn attempts_since_replay(&self) -> &[Attempt] {
        let before = self.replays.last().map_or(0, |replay| replay.attempts_before);
        self.attempts.get(before..).unwrap_or_default()
    }

    /// The moment from which its age counts: its acceptance, or the last replay. Its place in the conversation's order
    /// stays that of its acceptance.
    #[must_use]
    pub fn age_counts_from(&self) -> Timestamp {
        self.replays.iter().map(|replay| replay.at).fold(self.accepted_at, Timestamp::max)
    }
}
