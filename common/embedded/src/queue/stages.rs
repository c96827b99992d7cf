//! The embedded broker's state of each stage, in memory: which consumer is active, whether messages arrived, and what
//! the consumer holds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::Stage;
use tokio::sync::Notify;

use crate::queue::write::{Conversation, Queued};

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
}

/// What one subscription has read and not settled.
#[derive(Debug, Default)]
pub(super) struct Held {
    read: Mutex<Read>,
    /// A message was settled. Keeps one wake-up for a consumer that is busy.
    pub(super) settled: Notify,
}

#[derive(Debug, Default)]
struct Read {
    conversations: HashMap<i64, Conversation>,
    counts: HashMap<Conversation, usize>,
}

impl Stages {
    pub(super) fn of(&self, stage: Stage) -> &Arc<StageState> {
        match stage {
            Stage::Inbound => &self.inbound,
            Stage::Outbound => &self.outbound,
            Stage::Receipts => &self.receipts,
        }
    }

    /// Wakes the consumers of `stages`.
    pub(super) fn wake(&self, stages: &[Stage]) {
        for stage in stages {
            self.of(*stage).arrived.notify_one();
        }
    }
}

impl Held {
    /// Notes that `messages` were read.
    pub(super) fn add(&self, messages: &[Queued]) {
        let Read { conversations, counts } = &mut *locked(&self.read);
        for message in messages {
            if conversations.insert(message.number, message.conversation).is_none() {
                *counts.entry(message.conversation).or_default() += 1;
            }
        }
    }

    /// Forgets a message that is off the queue.
    pub(super) fn forget(&self, number: i64) {
        let Read { conversations, counts } = &mut *locked(&self.read);
        if let Some(conversation) = conversations.remove(&number)
            && let Entry::Occupied(mut count) = counts.entry(conversation)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        self.settled.notify_one();
    }

    /// How many messages are held.
    pub(super) fn count(&self) -> usize {
        locked(&self.read).conversations.len()
    }

    /// How many messages of each conversation are held.
    pub(super) fn of_each(&self) -> HashMap<Conversation, usize> {
        locked(&self.read).counts.clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
