//! The embedded store: records in the SQLite file that the embedded broker uses too.

mod statements;

use async_trait::async_trait;
use message::clock::Clock;
use message::failure::Failure;
use store::{Commit, Key, Record, Store, Write};

use crate::file::Database;

/// Records in the embedded database. A commit is one transaction on one writer thread, so its failure means that
/// nothing has changed: it is never of unknown outcome.
#[derive(Debug, Clone)]
pub struct EmbeddedStore {
    database: Database,
    clock: Clock,
}

impl EmbeddedStore {
    /// The records of `database`, expiring by `clock`.
    #[must_use]
    pub fn new(database: Database, clock: Clock) -> Self {
        Self { database, clock }
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Failure> {
        let (keys, now_ms) = (keys.to_vec(), self.now_ms());
        let read = move |connection: &rusqlite::Connection| {
            keys.iter().map(|key| statements::read(connection, key, now_ms)).collect()
        };
        self.database.run(read).await
    }

    async fn commit(&self, writes: &[Write]) -> Result<Commit, Failure> {
        let (writes, now_ms) = (writes.to_vec(), self.now_ms());
        self.database.run(move |connection| statements::commit(connection, &writes, now_ms)).await
    }

    async fn check(&self) -> Result<(), Failure> {
        self.database.check().await
    }
}
