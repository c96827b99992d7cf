//! The store port: small versioned records that change together or not at all. Sessions and ledgers are built on it.
//!
//! Every write names what it expects to find, so a worker that lost its partition cannot overwrite the work of the one
//! that took over: its commit is a [`Commit::Conflict`]. Repeating a commit whose outcome is unknown is therefore safe
//! too.

mod retrying;

#[cfg(feature = "redis")]
pub mod redis;
pub mod send_proof;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use message::failure::Failure;

pub use retrying::{CommitOutcome, Interrupted, RetryingStore};

/// How long the ledgers remember answered and sent messages: longer than any provider or broker hands a message out
/// again, and than any parked retry takes.
pub const LEDGERS_REMEMBER: Duration = Duration::from_secs(72 * 3600);

/// Names a record. Records that change in one commit share a `scope` (on a Redis cluster they then share a node).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// What the record belongs to, usually a conversation's key.
    pub scope: String,
    /// The record's name within its scope.
    pub name: String,
}

impl Key {
    /// The record `name` of `scope`.
    pub fn new(scope: impl Into<String>, name: impl Into<String>) -> Self {
        Self { scope: scope.into(), name: name.into() }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Scopes are hashes of phone numbers.
        write!(f, "Key({})", self.name)
    }
}

/// A record as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The value.
    pub value: Bytes,
    /// Changes with every write, and never repeats for a key.
    pub version: u64,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({} bytes, version {})", self.value.len(), self.version)
    }
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Any record, or none.
    Anything,
    /// No record, or an expired one.
    Absent,
    /// The record, unchanged since it was read with this version.
    Version(u64),
}

impl Expect {
    /// Exactly what was read: this record's version, or absence.
    #[must_use]
    pub fn unchanged(read: Option<&Record>) -> Self {
        read.map_or(Self::Absent, |record| Self::Version(record.version))
    }
}

/// One change of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The record to change.
    pub key: Key,
    /// The condition under which the whole commit applies.
    pub expect: Expect,
    /// The change.
    pub change: Change,
}

/// What becomes of a record.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// The record holds `value` for `ttl` (at least a millisecond), then it expires. Every record expires.
    Put {
        /// The value.
        value: Bytes,
        /// How long it lives.
        ttl: Duration,
    },
    /// The record is deleted.
    Delete,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { value, ttl } => write!(f, "Put({} bytes, {ttl:?})", value.len()),
            Self::Delete => f.write_str("Delete"),
        }
    }
}

impl Write {
    /// Puts `value` at `key` for `ttl`.
    pub fn put(key: Key, expect: Expect, value: impl Into<Bytes>, ttl: Duration) -> Self {
        Self { key, expect, change: Change::Put { value: value.into(), ttl } }
    }

    /// Deletes `key`.
    #[must_use]
    pub fn delete(key: Key, expect: Expect) -> Self {
        Self { key, expect, change: Change::Delete }
    }
}

/// The outcome of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Commit {
    /// All writes are durable.
    Applied,
    /// An expectation was not met: nothing changed.
    Conflict,
}

/// Durable records.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Reads records of one scope, all at one moment; `None` where there is none or it has expired.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Failure>;

    /// Makes all `writes` (of one scope) or none, durably.
    ///
    /// # Errors
    /// Of kind [`message::failure::FailureKind::Unknown`] when the writes may have been made.
    async fn commit(&self, writes: &[Write]) -> Result<Commit, Failure>;

    /// Makes one real round trip.
    ///
    /// # Errors
    /// When a commit would fail now.
    async fn check(&self) -> Result<(), Failure>;
}
