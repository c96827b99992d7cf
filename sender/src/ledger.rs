//! The send ledger: what was done about each part. It is written before every call, so that a crash leaves a question
//! to ask rather than a text to send twice.

use std::sync::Arc;
use std::time::Duration;

use common::clock::Timestamp;
use common::failure::Failure;
use common::message::{ConversationKey, MessageId};
use common::retry::RetryPolicy;
use common::shutdown::Shutdown;
use common::store::{Commit, Expect, Key, Record, Store, Write};
use serde::{Deserialize, Serialize};

/// Longer than any redelivery or parked retry takes.
const TTL: Duration = Duration::from_secs(72 * 60 * 60);
/// How many names of accepted texts are kept for a conversation.
const KNOWN: usize = 64;

/// What was done about a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum State {
    /// Nothing, or nothing that had an effect.
    #[serde(skip)]
    Untouched,
    /// A call began; unless the ledger says more, its outcome is unknown.
    Sending(Mark),
    /// The provider took it.
    Accepted {
        /// The provider's name for it.
        provider_id: String,
        /// When.
        at: Timestamp,
    },
}

/// A call that began. No two have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// When the first call began that may still turn up.
    pub(crate) first_attempt_at: Timestamp,
    /// When this one began.
    pub(crate) started_at: Timestamp,
}

/// What the ledger holds about a part.
#[derive(Debug)]
pub(crate) struct Entry {
    /// What was done.
    pub(crate) state: State,
    /// The provider's names of other texts of the conversation.
    pub(crate) known: Vec<String>,
    record: Option<Record>,
}

impl Entry {
    /// When the first call began that may still turn up; `None` when none may.
    pub(crate) fn began_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Sending(mark) => Some(mark.first_attempt_at),
            State::Untouched | State::Accepted { .. } => None,
        }
    }
}

/// We were asked to stop while waiting.
#[derive(Debug)]
pub(crate) struct Stopped;

/// The ledger of all parts.
#[derive(Debug)]
pub(crate) struct Ledger {
    store: Arc<dyn Store>,
    shutdown: Shutdown,
}

/// One part's place in the ledger.
#[derive(Debug)]
pub(crate) struct Place {
    part: Key,
    known: Key,
}

impl Place {
    /// The place of `part` in the conversation named `conversation`.
    pub(crate) fn of(conversation: ConversationKey, part: MessageId) -> Self {
        let scope = conversation.to_hex();
        Self { part: Key::new(scope.clone(), format!("part/{part}")), known: Key::new(scope, "sent") }
    }
}

impl Ledger {
    /// The ledger in `store`. While the store is away everything waits, until `shutdown`.
    pub(crate) fn new(store: Arc<dyn Store>, shutdown: Shutdown) -> Self {
        Self { store, shutdown }
    }

    /// What was done about a part.
    pub(crate) async fn read(&self, place: &Place) -> Result<Entry, Stopped> {
        let mut records = self.get(&[place.part.clone(), place.known.clone()]).await?.into_iter();
        let record = records.next().flatten();
        let known = records.next().flatten().and_then(|known| serde_json::from_slice(&known.value).ok());
        let state = record.as_ref().map_or(State::Untouched, |record| decode(&record.value));
        Ok(Entry { state, known: known.unwrap_or_default(), record })
    }

    /// Notes that a call begins, unless somebody else wrote since `entry` was read: then `false`.
    pub(crate) async fn begin(&self, place: &Place, entry: &Entry, mark: Mark) -> Result<bool, Stopped> {
        let write = Write::put(
            place.part.clone(),
            Expect::unchanged(entry.record.as_ref()),
            encode(&State::Sending(mark)),
            TTL,
        );
        match self.commit(&[write]).await? {
            Commit::Applied => Ok(true),
            // A commit without an answer may have been made, and its repetition then conflicts with itself.
            Commit::Conflict => Ok(self.read(place).await?.state == State::Sending(mark)),
        }
    }

    /// Notes that the provider took it. That is a fact, whoever else is at work: nothing is expected.
    pub(crate) async fn accept(
        &self,
        place: &Place,
        entry: &Entry,
        provider_id: &str,
        at: Timestamp,
    ) -> Result<(), Stopped> {
        let accepted = State::Accepted { provider_id: provider_id.to_owned(), at };
        let mut known = entry.known.clone();
        known.push(provider_id.to_owned());
        known.drain(..known.len().saturating_sub(KNOWN));
        // Strings and lists of strings: serialising cannot fail.
        let known = serde_json::to_vec(&known).unwrap_or_default();
        let writes = [
            Write::put(place.part.clone(), Expect::Anything, encode(&accepted), TTL),
            Write::put(place.known.clone(), Expect::Anything, known, TTL),
        ];
        self.commit(&writes).await.map(drop)
    }

    /// Takes our own mark back, after a call that certainly had no effect. Another holder's mark stays.
    pub(crate) async fn clear(&self, place: &Place, mark: Mark) -> Result<(), Stopped> {
        let entry = self.read(place).await?;
        if entry.state != State::Sending(mark) {
            return Ok(());
        }
        let write = Write::delete(place.part.clone(), Expect::unchanged(entry.record.as_ref()));
        self.commit(&[write]).await.map(drop)
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Stopped> {
        let mut backoff = RetryPolicy::NEAR.start();
        loop {
            match self.store.get(keys).await {
                Ok(records) => return Ok(records),
                Err(failure) => self.wait_for_store(&failure, backoff.next_delay(failure.retry_after)).await?,
            }
        }
    }

    async fn commit(&self, writes: &[Write]) -> Result<Commit, Stopped> {
        let mut backoff = RetryPolicy::NEAR.start();
        loop {
            match self.store.commit(writes).await {
                Ok(commit) => return Ok(commit),
                Err(failure) => self.wait_for_store(&failure, backoff.next_delay(failure.retry_after)).await?,
            }
        }
    }

    async fn wait_for_store(&self, failure: &Failure, delay: Duration) -> Result<(), Stopped> {
        tracing::warn!(%failure, "the store is away, holding a part");
        wait(&self.shutdown, delay).await
    }
}

/// Waits, unless `shutdown` starts first.
pub(crate) async fn wait(shutdown: &Shutdown, delay: Duration) -> Result<(), Stopped> {
    tokio::select! {
        biased;
        () = shutdown.started() => Err(Stopped),
        () = tokio::time::sleep(delay) => Ok(()),
    }
}

fn encode(state: &State) -> Vec<u8> {
    // Times and strings: serialising cannot fail.
    serde_json::to_vec(state).unwrap_or_default()
}

/// A record that cannot be read says at least that somebody began.
fn decode(value: &[u8]) -> State {
    let began = Mark { first_attempt_at: Timestamp::UNIX_EPOCH, started_at: Timestamp::UNIX_EPOCH };
    serde_json::from_slice(value).unwrap_or(State::Sending(began))
}
