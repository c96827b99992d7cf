//! The store, waited for. Nothing is answered or sent without its ledger, so while the store is away deliveries are held;
//! they go back to the queue only when we stop ourselves.

use std::sync::Arc;
use std::time::Duration;

use message::failure::{Failure, FailureKind};
use message::retry::{Backoff, RetryPolicy};
use message::shutdown::Shutdown;

use super::{Commit, Key, Record, Store, Write};

/// A store whose calls return only once they have an answer, or none can come.
#[derive(Debug, Clone)]
pub struct PatientStore {
    store: Arc<dyn Store>,
    shutdown: Shutdown,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Halt {
    /// We were asked to stop while waiting.
    Stopping,
    /// The store can never do this.
    Impossible(Failure),
}

/// What came of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is durable.
    Applied,
    /// Somebody else was first; nothing changed.
    Conflict,
    /// An earlier try of this very commit, or somebody else, was first: reading again tells which.
    Unsure,
}

impl PatientStore {
    /// Waits for `store` until `shutdown`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, shutdown: Shutdown) -> Self {
        Self { store, shutdown }
    }

    /// See [`Store::get`]; returns as many records as there are `keys`.
    ///
    /// # Errors
    /// When no answer can come.
    pub async fn get<const N: usize>(&self, keys: [Key; N]) -> Result<[Option<Record>; N], Halt> {
        let records = self.get_all(&keys).await?;
        records.try_into().map_err(|_| Halt::Impossible(too_few()))
    }

    /// See [`Store::get`]; returns as many records as there are `keys`.
    ///
    /// # Errors
    /// When no answer can come.
    pub async fn get_all(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Halt> {
        let mut wait = Wait::new(self);
        loop {
            match self.store.get(keys).await {
                Ok(records) if records.len() == keys.len() => return Ok(records),
                Ok(_) => return Err(Halt::Impossible(too_few())),
                Err(failure) => wait.after(failure).await?,
            }
        }
    }

    /// See [`Store::commit`]. Every write must be safe to repeat: it names what it expects, or it states a fact.
    ///
    /// # Errors
    /// When no answer can come.
    pub async fn commit(&self, writes: &[Write]) -> Result<Written, Halt> {
        let mut wait = Wait::new(self);
        let mut was_unknown = false;
        loop {
            match self.store.commit(writes).await {
                Ok(Commit::Applied) => return Ok(Written::Applied),
                Ok(Commit::Conflict) if was_unknown => return Ok(Written::Unsure),
                Ok(Commit::Conflict) => return Ok(Written::Conflict),
                Err(failure) => {
                    was_unknown |= failure.kind == FailureKind::Unknown;
                    wait.after(failure).await?;
                }
            }
        }
    }

    /// Waits for `delay`, unless we are asked to stop.
    ///
    /// # Errors
    /// [`Halt::Stopping`].
    pub async fn pause(&self, delay: Duration) -> Result<(), Halt> {
        tokio::select! {
            biased;
            () = self.shutdown.started() => Err(Halt::Stopping),
            () = tokio::time::sleep(delay) => Ok(()),
        }
    }
}

fn too_few() -> Failure {
    Failure::permanent("the store returned too few records")
}

/// The delays of one call.
struct Wait<'a> {
    store: &'a PatientStore,
    backoff: Backoff,
    was_logged: bool,
}

impl<'a> Wait<'a> {
    fn new(store: &'a PatientStore) -> Self {
        Self { store, backoff: RetryPolicy::NEAR.start(), was_logged: false }
    }

    async fn after(&mut self, failure: Failure) -> Result<(), Halt> {
        if failure.kind == FailureKind::Permanent {
            return Err(Halt::Impossible(failure));
        }
        if !self.was_logged {
            tracing::warn!(failure = %failure, "the store does not answer, holding the delivery until it does");
            self.was_logged = true;
        }
        self.store.pause(self.backoff.next_delay(failure.retry_after)).await
    }
}
