//! The store on Redis or Valkey.

use async_trait::async_trait;
use secrecy::SecretString;

use super::{Commit, Key, Record, Store, Write};
use crate::failure::Failure;

/// Records in Redis.
#[derive(Debug)]
pub struct RedisStore;

impl RedisStore {
    /// Records under `prefix` in the Redis at `url`. Connects when first used, and again whenever the connection is lost.
    pub fn new(_url: &SecretString, _prefix: &str) -> Result<Self, Failure> {
        Ok(Self)
    }
}

#[async_trait]
impl Store for RedisStore {
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
