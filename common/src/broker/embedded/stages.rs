//! What the embedded broker remembers about each stage while the process lives: whose turn it is to consume, that
//! something arrived, and what was handed out before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::super::Stage;

/// All stages.
#[derive(Debug, Default)]
pub(super) struct Stages {
    inbound: Arc<StageState>,
    outbound: Arc<StageState>,
    receipts: Arc<StageState>,
}

/// One stage.
#[derive(Debug, Default)]
pub(super) struct StageState {
    /// Held by the active consumer; the others wait in line for it.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    /// Something was added to the queue or to the parked messages. Keeps one wake-up for a consumer that is busy.
    pub(super) arrived: Notify,
    /// How often the messages that were given back had been handed out, by number. A consumer holds a bounded number of
    /// messages and takes the given back ones first, so this stays small.
    given_back: Mutex<BTreeMap<i64, u32>>,
}

/// What one subscription has handed out and not settled: how often each was handed out before, by number.
#[derive(Debug, Default)]
pub(super) struct Held {
    numbers: Mutex<BTreeMap<i64, u32>>,
    /// One was settled. Keeps one wake-up for a consumer that is busy.
    pub(super) settled: Notify,
}

impl Stages {
    pub(super) fn of(&self, stage: Stage) -> &Arc<StageState> {
        match stage {
            Stage::Inbound => &self.inbound,
            Stage::Outbound => &self.outbound,
            Stage::Receipts => &self.receipts,
        }
    }

    /// Tells the consumers of `stages` to look.
    pub(super) fn wake(&self, stages: &[Stage]) {
        for stage in stages {
            self.of(*stage).arrived.notify_one();
        }
    }
}

impl StageState {
    /// Notes that `held` holds message `number` now; returns how often it was handed out before.
    pub(super) fn hand_out(&self, number: i64, held: &Held) -> u32 {
        let before = locked(&self.given_back).remove(&number).unwrap_or_default();
        locked(&held.numbers).insert(number, before);
        before
    }

    /// Forgets a message that is off the queue.
    pub(super) fn forget(&self, number: i64, held: &Held) {
        locked(&self.given_back).remove(&number);
        locked(&held.numbers).remove(&number);
        held.settled.notify_one();
    }

    /// Gives back everything `held` holds.
    pub(super) fn give_back(&self, held: &Held) {
        let numbers = std::mem::take(&mut *locked(&held.numbers));
        locked(&self.given_back).extend(numbers.into_iter().map(|(number, before)| (number, before.saturating_add(1))));
    }
}

impl Held {
    pub(super) fn count(&self) -> usize {
        locked(&self.numbers).len()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
