//! The embedded broker: queues in the SQLite file that the embedded store uses too.
//!
//! A stage is one ordered queue with one active consumer; partitions are a matter of RabbitMQ. What a consumer holds is
//! remembered in memory only: a new process hands everything unsettled out again, as if for the first time.

mod queue;
mod stages;
mod subscription;

use std::sync::Arc;

use async_trait::async_trait;

use super::{Broker, Depths, Destination, Outgoing, Stage, Subscription};
use crate::clock::Clock;
use crate::failure::Failure;
use crate::store::embedded::Database;
use queue::Taken;
use stages::Stages;
use subscription::EmbeddedSubscription;

/// A stage that holds this many messages takes no more: the disk must not fill up behind a dead neighbour.
const ROW_LIMIT: u64 = 1_000_000;

/// Queues in the embedded database. Clones share their consumers: make one for a database, and clone it.
#[derive(Debug, Clone)]
pub struct EmbeddedBroker {
    database: Database,
    clock: Clock,
    stages: Arc<Stages>,
    row_limit: u64,
}

impl EmbeddedBroker {
    /// The queues of `database`, parking messages by `clock`.
    ///
    /// A consumer with nothing to do sleeps (in `tokio::time`) until a message arrives or for as long as `clock` says
    /// that the next parked one still has to wait. A clock moved by hand is therefore noticed at the next publish to
    /// the stage, or when that sleep ends.
    #[must_use]
    pub fn new(database: Database, clock: Clock) -> Self {
        Self { database, clock, stages: Arc::default(), row_limit: ROW_LIMIT }
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    async fn publish(&self, messages: &[Outgoing]) -> Result<(), Failure> {
        if messages.is_empty() {
            return Ok(());
        }
        let (messages, row_limit, now_ms) = (messages.to_vec(), self.row_limit, self.now_ms());
        let (stages, touched) = (Arc::clone(&self.stages), touched(&messages));
        let add = move |connection: &rusqlite::Connection| queue::add(connection, &messages, row_limit, now_ms);
        let taken = self.database.run_then(add, move |_| stages.wake(&touched)).await?;
        refuse_if_full(taken)
    }

    fn subscribe(&self, stage: Stage, prefetch: u16) -> Box<dyn Subscription> {
        Box::new(EmbeddedSubscription::new(self.clone(), stage, prefetch))
    }

    async fn depths(&self) -> Result<Depths, Failure> {
        self.database.run(queue::depths).await
    }

    async fn check(&self) -> Result<(), Failure> {
        self.database.check().await
    }
}

/// The stages whose consumer has something new to do or to wait for.
fn touched(messages: &[Outgoing]) -> Vec<Stage> {
    let concerns = |stage: &Stage| {
        messages.iter().any(|message| match &message.destination {
            Destination::Work(s) | Destination::Delayed(s, _) => s == stage,
            Destination::Dead(..) => false,
        })
    };
    Stage::ALL.into_iter().filter(concerns).collect()
}

fn refuse_if_full(taken: Taken) -> Result<(), Failure> {
    match taken {
        Taken::All => Ok(()),
        Taken::Full(stage) => Err(Failure::transient(format!("queue full: {}", stage.as_str()))),
    }
}
