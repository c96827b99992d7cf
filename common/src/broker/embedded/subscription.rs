//! A consumer of one stage of the embedded broker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OwnedMutexGuard;

use super::super::{Delivery, Outgoing, Settler, Stage, Subscription};
use super::queue::{self, Fetched, Queued, Taken};
use super::stages::{Held, StageState};
use super::{EmbeddedBroker, refuse_if_full, touched};
use crate::failure::Failure;
use crate::retry::{Backoff, RetryPolicy};

/// `prefetch` holds for each partition, and a stage is all partitions in one: as many as the default configuration has.
const HELD_PER_PREFETCH: usize = 64;

/// A consumer with nothing to do looks again after this long: another process may have replayed dead letters, clocks are
/// set, and machines are suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// One subscriber. It is handed deliveries from when its turn comes until it is closed or dropped.
pub(super) struct EmbeddedSubscription {
    broker: EmbeddedBroker,
    stage: Stage,
    state: Arc<StageState>,
    most_held: usize,
    turn: Option<OwnedMutexGuard<()>>,
    /// Read but not handed out yet.
    ready: VecDeque<Queued>,
    /// The number of the last message read.
    read_up_to: i64,
    held: Arc<Held>,
    backoff: Backoff,
}

impl EmbeddedSubscription {
    pub(super) fn new(broker: EmbeddedBroker, stage: Stage, prefetch: u16) -> Self {
        Self {
            state: Arc::clone(broker.stages.of(stage)),
            broker,
            stage,
            most_held: usize::from(prefetch.max(1)) * HELD_PER_PREFETCH,
            turn: None,
            ready: VecDeque::new(),
            read_up_to: 0,
            held: Arc::default(),
            backoff: RetryPolicy::NEAR.start(),
        }
    }

    fn hand_out(&self, message: Queued) -> Delivery {
        let redeliveries = self.state.hand_out(message.number, &self.held);
        let settler = EmbeddedSettler {
            broker: self.broker.clone(),
            state: Arc::clone(&self.state),
            number: message.number,
            held: Arc::clone(&self.held),
        };
        Delivery { payload: message.payload, redeliveries, settler: Box::new(settler) }
    }

    /// Reads the next messages; waits a while when there are none.
    async fn refill(&mut self) {
        let (stage, after, now_ms) = (self.stage, self.read_up_to, self.broker.now_ms());
        match self.broker.database.run(move |connection| queue::fetch(connection, stage, after, now_ms)).await {
            Ok(Fetched { messages, next_due_ms }) => {
                self.backoff.reset();
                match messages.last() {
                    Some(last) => {
                        self.read_up_to = last.number;
                        self.ready.extend(messages);
                    }
                    None => self.wait(next_due_ms).await,
                }
            }
            Err(failure) => {
                tracing::warn!(stage = stage.as_str(), %failure, "cannot read a queue");
                tokio::time::sleep(self.backoff.next_delay(None)).await;
            }
        }
    }

    async fn wait(&self, next_due_ms: Option<i64>) {
        let left = |due_ms: i64| u64::try_from(due_ms.saturating_sub(self.broker.now_ms())).unwrap_or_default();
        let left = next_due_ms.map_or(LONGEST_SLEEP, |due_ms| Duration::from_millis(left(due_ms)));
        let sleep = tokio::time::sleep(left.min(LONGEST_SLEEP));
        tokio::select! {
            () = self.state.arrived.notified() => {}
            () = sleep => {}
        }
    }
}

#[async_trait]
impl Subscription for EmbeddedSubscription {
    async fn next(&mut self) -> Delivery {
        // Nothing that was read is lost when this is cancelled: fields change only after the last await of a step.
        loop {
            if self.turn.is_none() {
                self.turn = Some(Arc::clone(&self.state.turn).lock_owned().await);
            }
            if self.held.count() >= self.most_held {
                self.held.settled.notified().await;
            } else if let Some(message) = self.ready.pop_front() {
                return self.hand_out(message);
            } else {
                self.refill().await;
            }
        }
    }

    async fn close(self: Box<Self>) {}
}

impl Drop for EmbeddedSubscription {
    /// Closing is dropping: what is held goes back before the turn passes on, and the next consumer reads from the start.
    fn drop(&mut self) {
        self.state.give_back(&self.held);
    }
}

struct EmbeddedSettler {
    broker: EmbeddedBroker,
    state: Arc<StageState>,
    number: i64,
    held: Arc<Held>,
}

#[async_trait]
impl Settler for EmbeddedSettler {
    async fn settle(&self, effects: &[Outgoing]) -> Result<(), Failure> {
        let (number, row_limit, now_ms) = (self.number, self.broker.row_limit, self.broker.now_ms());
        let (effects, touched) = (effects.to_vec(), touched(effects));
        let (stages, state, held) = (Arc::clone(&self.broker.stages), Arc::clone(&self.state), Arc::clone(&self.held));
        let settle =
            move |connection: &rusqlite::Connection| queue::settle(connection, number, &effects, row_limit, now_ms);
        let then = move |taken: &Taken| {
            if *taken == Taken::All {
                state.forget(number, &held);
                stages.wake(&touched);
            }
        };
        refuse_if_full(self.broker.database.run_then(settle, then).await?)
    }
}
