//! A store that retries until it has an answer. Nothing is answered or sent without its ledger, so while the store is
//! away deliveries are held; they go back to the queue only when this process stops.

use std::sync::Arc;
use std::time::Duration;

use message::failure::{Failure, FailureKind};
use message::retry::{Backoff, RetryPolicy};
use message::shutdown::Shutdown;

use super::{Commit, Key, Record, Store, Write};

/// A store whose calls return only once they have an answer, or none can come.
#[derive(Debug, Clone)]
pub struct RetryingStore {
    store: Arc<dyn Store>,
    shutdown: Shutdown,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Interrupted {
    /// The process was asked to stop during the wait.
    Stopping,
    /// The store can never do this: it failed permanently.
    Impossible(Failure),
}

/// The outcome of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is durable.
    Applied,
    /// Another process committed first; nothing changed.
    Conflict,
    /// An earlier try of this very commit, or another process, committed first. Reading the records again tells which.
    Unsure,
}

impl RetryingStore {
    /// Retries calls to `store` until `shutdown` starts.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, shutdown: Shutdown) -> Self {
        Self { store, shutdown }
    }

    /// See [`Store::get`]; returns as many records as there are `keys`.
    ///
    /// # Errors
    /// When no answer can come.
    pub async fn get<const N: usize>(&self, keys: [Key; N]) -> Result<[Option<Record>; N], Interrupted> {
        let records = self.get_all(&keys).await?;
        records.try_into().map_err(|_| Interrupted::Impossible(too_few()))
    }

    /// See [`Store::get`]; returns as many records as there are `keys`.
    ///
    /// # Errors
    /// When no answer can come.
    pub async fn get_all(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Interrupted> {
        let mut wait = Wait::new(self);
        loop {
            match self.store.get(keys).await {
                Ok(records) if records.len() == keys.len() => return Ok(records),
                Ok(_) => return Err(Interrupted::Impossible(too_few())),
                Err(failure) => wait.after(failure).await?,
            }
        }
    }

    /// See [`Store::commit`]. Every write must be safe to repeat: it names what it expects, or it states a fact.
    ///
    /// # Errors
    /// When no answer can come.
    pub async fn commit(&self, writes: &[Write]) -> Result<CommitOutcome, Interrupted> {
        let mut wait = Wait::new(self);
        let mut was_unknown = false;
        loop {
            match self.store.commit(writes).await {
                Ok(Commit::Applied) => return Ok(CommitOutcome::Applied),
                Ok(Commit::Conflict) if was_unknown => return Ok(CommitOutcome::Unsure),
                Ok(Commit::Conflict) => return Ok(CommitOutcome::Conflict),
                Err(failure) => {
                    was_unknown |= failure.kind == FailureKind::Unknown;
                    wait.after(failure).await?;
                }
            }
        }
    }

    /// Waits for `delay`, unless the process is asked to stop.
    ///
    /// # Errors
    /// [`Interrupted::Stopping`].
    pub async fn pause(&self, delay: Duration) -> Result<(), Interrupted> {
        tokio::select! {
            biased;
            () = self.shutdown.started() => Err(Interrupted::Stopping),
            () = tokio::time::sleep(delay) => Ok(()),
        }
    }
}

fn too_few() -> Failure {
    Failure::permanent("the store returned too few records")
}

/// The delays of one call.
struct Wait<'a> {
    store: &'a RetryingStore,
    backoff: Backoff,
    was_logged: bool,
}

impl<'a> Wait<'a> {
    fn new(store: &'a RetryingStore) -> Self {
        Self { store, backoff: RetryPolicy::NEAR.start(), was_logged: false }
    }

    async fn after(&mut self, failure: Failure) -> Result<(), Interrupted> {
        if failure.kind == FailureKind::Permanent {
            return Err(Interrupted::Impossible(failure));
        }
        if !self.was_logged {
            tracing::warn!(failure = %failure, "the store does not answer, holding the delivery until it does");
            self.was_logged = true;
        }
        self.store.pause(self.backoff.next_delay(failure.retry_after)).await
    }
}
