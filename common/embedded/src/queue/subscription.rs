//! A consumer of one stage of the embedded broker.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::{Delivery, Outgoing, Settler, Stage, Subscription};
use message::failure::Failure;
use message::retry::{Backoff, RetryPolicy};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::read::{self, Fetched, Position};
use super::stages::{Held, StageState};
use super::{EmbeddedBroker, refuse_if_full, touched};
use crate::queue::write::{self, Queued, Taken};

/// How many messages are held for each unit of `prefetch`: `prefetch` is per partition, and a stage is all partitions
/// in one.
const HELD_PER_PREFETCH: usize = 64;

/// An idle consumer looks again after this long: another process may have replayed dead letters, clocks are set, and
/// machines are suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// A read of the queue in progress.
type Fetching = Pin<Box<dyn Future<Output = Result<Fetched, Failure>> + Send>>;

/// One subscriber. It is handed deliveries from when its turn comes until it is closed or dropped.
pub(super) struct EmbeddedSubscription {
    broker: EmbeddedBroker,
    stage: Stage,
    state: Arc<StageState>,
    most_held: usize,
    turn: Option<OwnedMutexGuard<()>>,
    /// Read but not handed out yet.
    ready: VecDeque<Queued>,
    position: Position,
    fetching: Option<Fetching>,
    /// Set when the end of the queue was reached.
    at_end: Option<AtEnd>,
    held: Arc<Held>,
    backoff: Backoff,
}

/// What is known at the end of the queue.
#[derive(Clone, Copy)]
struct AtEnd {
    /// When the next parked message is due, if there is one.
    next_due_ms: Option<i64>,
    /// When to look again in any case, however often the caller abandons its wait before.
    look_again_at: Instant,
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
            position: Position::default(),
            fetching: None,
            at_end: None,
            held: Arc::default(),
            backoff: RetryPolicy::NEAR.start(),
        }
    }

    fn hand_out(&self, message: Queued) -> Delivery {
        let settler =
            EmbeddedSettler { broker: self.broker.clone(), number: message.number, held: Arc::clone(&self.held) };
        Delivery { payload: message.payload, redeliveries: message.times, settler: Box::new(settler) }
    }

    /// Reads the next messages, once there may be some.
    async fn refill(&mut self) {
        if let Some(at_end) = self.at_end {
            self.wait(at_end).await;
            self.at_end = None;
        }
        // A read marks its messages as held, so a read that has begun is kept when the caller abandons its wait.
        let fetching = self.fetching.get_or_insert_with(|| {
            let (stage, now_ms, position) = (self.stage, self.broker.now_ms(), self.position.clone());
            let (database, held) = (self.broker.database.clone(), self.held.of_each());
            let fetch = move |connection: &rusqlite::Connection| read::fetch(connection, stage, position, held, now_ms);
            Box::pin(async move { database.run(fetch).await })
        });
        let fetched = fetching.await;
        self.fetching = None;
        match fetched {
            Ok(Fetched { messages, position, is_at_end, next_due_ms }) => {
                self.backoff.reset();
                self.held.add(&messages);
                self.position = position;
                let look_again_at = Instant::now() + LONGEST_SLEEP;
                self.at_end = (messages.is_empty() && is_at_end).then_some(AtEnd { next_due_ms, look_again_at });
                self.ready.extend(messages);
            }
            Err(failure) => {
                tracing::warn!(stage = self.stage.as_str(), %failure, "cannot read a queue");
                tokio::time::sleep(self.backoff.next_delay(None)).await;
            }
        }
    }

    async fn wait(&mut self, AtEnd { next_due_ms, look_again_at }: AtEnd) {
        let left = |due_ms: i64| u64::try_from(due_ms.saturating_sub(self.broker.now_ms())).unwrap_or_default();
        let left = next_due_ms.map_or(LONGEST_SLEEP, |due_ms| Duration::from_millis(left(due_ms)).min(LONGEST_SLEEP));
        let due = tokio::time::sleep_until(look_again_at.min(Instant::now() + left));
        tokio::select! {
            () = self.state.arrived.notified() => {}
            () = self.held.settled.notified(), if self.position.lags() => {}
            () = due => {}
        }
    }
}

#[async_trait]
impl Subscription for EmbeddedSubscription {
    async fn next(&mut self) -> Delivery {
        // Nothing that was read is lost when this is cancelled: it is in a field by the next await.
        loop {
            if self.turn.is_none() {
                self.turn = Some(Arc::clone(&self.state.turn).lock_owned().await);
            }
            if self.held.count() - self.ready.len() >= self.most_held {
                self.held.settled.notified().await;
            } else if let Some(message) = self.ready.pop_front() {
                return self.hand_out(message);
            } else {
                self.refill().await;
            }
        }
    }

    /// Gives the held messages back before the turn passes on: the next consumer reads from the start.
    async fn close(self: Box<Self>) {
        if self.turn.is_none() {
            return;
        }
        let stage = self.stage;
        let given_back = self.broker.database.run(move |connection| read::give_back(connection, stage)).await;
        if let Err(failure) = given_back {
            tracing::warn!(stage = stage.as_str(), %failure, "what is given back will look as if nobody had");
        }
    }
}

struct EmbeddedSettler {
    broker: EmbeddedBroker,
    number: i64,
    held: Arc<Held>,
}

#[async_trait]
impl Settler for EmbeddedSettler {
    async fn settle(&self, effects: &[Outgoing]) -> Result<(), Failure> {
        let (number, row_limit, now_ms) = (self.number, self.broker.row_limit, self.broker.now_ms());
        let (effects, touched) = (effects.to_vec(), touched(effects));
        let (stages, held) = (Arc::clone(&self.broker.stages), Arc::clone(&self.held));
        let settle =
            move |connection: &rusqlite::Connection| write::settle(connection, number, &effects, row_limit, now_ms);
        let then = move |taken: &Taken| {
            if *taken == Taken::All {
                held.forget(number);
                stages.wake(&touched);
            }
        };
        refuse_if_full(self.broker.database.run_then(settle, then).await?)
    }
}
