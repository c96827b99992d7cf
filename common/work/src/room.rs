//! The messages of a stage that the run loop holds, and how many it may hold.

use std::time::Duration;

use broker::Delivery;
use message::clock::Timestamp;
use tokio::task::JoinError;
use tokio::time::Instant;
use tracing::error;

use super::Handler;
use super::item::{Ages, Group, Item, LaneKey, Load, Suspicion};
use super::lanes::Lanes;
use super::progress::Held;

/// How many messages are held for each one being handled, so that a lane's next message is at hand; [`LEAST_HELD`] is
/// the minimum.
const HELD_PER_RUNNING: usize = 4;
pub(super) const LEAST_HELD: usize = 256;
/// Nothing more is taken while payloads of this many bytes, 64 MiB, are held.
const MOST_HELD_BYTES: usize = 64 * 1024 * 1024;
/// The share of the held messages that may be at the head of resting lanes, as a divisor: from a quarter on, the room
/// is crowded.
const HELD_PER_RESTING: usize = 4;

/// The held messages, and the limits for them.
pub(super) struct Room {
    pub(super) lanes: Lanes<Group, LaneKey, Item>,
    load: Load,
    ages: Ages,
    most_messages: usize,
}

impl Room {
    pub(super) fn new(concurrency: usize) -> Self {
        let most_messages = (concurrency * HELD_PER_RUNNING).max(LEAST_HELD);
        Self { lanes: Lanes::new(concurrency), load: Load::default(), ages: Ages::default(), most_messages }
    }

    pub(super) fn has_room(&self) -> bool {
        self.load.messages < self.most_messages && self.load.bytes < MOST_HELD_BYTES
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.lanes.retrying() >= self.most_messages / HELD_PER_RESTING
    }

    pub(super) fn held(&self) -> Held {
        let Load { messages, bytes } = self.load;
        Held {
            messages: messages as u64,
            bytes: bytes as u64,
            resting: self.lanes.retrying() as u64,
            oldest: self.ages.oldest(),
        }
    }

    /// Takes `delivery` into its lane, and returns its conversation.
    pub(super) fn take(&mut self, delivery: Delivery, handler: &dyn Handler) -> LaneKey {
        let item = Item::read(delivery);
        self.load = self.load.plus(item.load());
        self.ages.add(&item.since);
        let window = match &item.message {
            // A suspect joins nothing: no other message should be suspected with it, or become a dead letter with it.
            Ok(envelope) if item.suspicion == Suspicion::None => handler.join_window(envelope),
            _ => Duration::ZERO,
        };
        let lane = item.lane();
        self.lanes.push(item.group(), lane, item, window, Instant::now());
        lane
    }

    /// Records how a lane's turn ended, and returns whether that is progress.
    pub(super) fn close_lane(&mut self, ended: Result<LaneResult, JoinError>) -> bool {
        let LaneResult { lane, load, since, item, settled } = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // Panics are caught, so only a cancelled task ends here, and nothing cancels one before the end.
                error!(%error, "a message's task ended by itself");
                return false;
            }
        };
        self.load = self.load.minus(load);
        self.ages.remove(&since);
        match (settled, item) {
            (Settled::Again { after, is_progress }, Some(item)) => {
                self.load = self.load.plus(item.load());
                self.ages.add(&item.since);
                self.lanes.again_at(lane, *item, Instant::now() + after);
                return is_progress;
            }
            (Settled::GivenBack, _) => self.lanes.given_back(lane),
            (Settled::Yes | Settled::Again { .. }, _) => self.lanes.finished(lane, Instant::now()),
        }
        true
    }
}

/// The result of a lane's turn, with what the turn had taken.
pub(super) struct LaneResult {
    pub(super) lane: LaneKey,
    pub(super) load: Load,
    /// Since when its messages had been waiting.
    pub(super) since: Vec<Timestamp>,
    /// The item that it worked on; `None` if a lost connection took back all of it.
    pub(super) item: Option<Box<Item>>,
    pub(super) settled: Settled,
}

/// Whether the deliveries are off their queue.
pub(super) enum Settled {
    Yes,
    GivenBack,
    /// Not yet: to be handled again.
    Again {
        after: Duration,
        /// Whether it was handled, and this is the decision.
        is_progress: bool,
    },
}
