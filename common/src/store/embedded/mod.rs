//! The embedded store: records in the SQLite file that the embedded broker uses too.

use std::path::Path;

use async_trait::async_trait;

use super::{Commit, Key, Record, Store, Write};
use crate::clock::Clock;
use crate::failure::Failure;

/// The one SQLite file of an embedded installation, with its one writer thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database;

impl Database {
    /// Opens (or makes) the database in `data_dir`.
    pub fn open(_data_dir: &Path) -> Result<Self, Failure> {
        Ok(Self)
    }
    /// A database in memory, for tests.
    pub fn in_memory() -> Result<Self, Failure> {
        Ok(Self)
    }
}

/// Records in the embedded database.
#[derive(Debug)]
pub struct EmbeddedStore;

impl EmbeddedStore {
    /// The records of `database`, expiring by `clock`.
    #[must_use]
    pub fn new(_database: Database, _clock: Clock) -> Self {
        Self
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, _keys: &[Key]) -> Result<Vec<Option<Record>>, Failure> {
        Err(Failure::permanent("placeholder"))
    }
    async fn commit(&self, _writes: &[Write]) -> Result<Commit, Failure> {
        Err(Failure::permanent("placeholder"))
    }
    async fn check(&self) -> Result<(), Failure> {
        Err(Failure::permanent("placeholder"))
    }
}
