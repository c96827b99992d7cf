//! The store on Redis or Valkey: a record is a hash of value and version; a commit is one Lua script.
//!
//! It is only as durable as the server: run it with `appendonly yes`, `appendfsync always` and `noeviction`; a server
//! set up otherwise is named in the log once.

mod connection;
mod failure;
mod script;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use message::failure::Failure;
use redis::Client;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Commit, Expect, Key, Record, Store, Write};

/// Lifetime of the record that [`Store::check`] writes.
const PROBE_TTL: Duration = Duration::from_secs(10);

/// Records in Redis. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RedisStore {
    connection: Arc<connection::Connection>,
    prefix: String,
}

impl RedisStore {
    /// Whether the Redis client can parse `url`.
    #[must_use]
    pub fn is_url(url: &str) -> bool {
        Client::open(url).is_ok()
    }

    /// Records under `prefix` in the Redis at `url`. Connects when first used, and again whenever the connection is
    /// lost.
    ///
    /// # Errors
    /// [`message::failure::FailureKind::Misconfigured`] when `url` is no Redis URL.
    pub fn new(url: &SecretString, prefix: &str) -> Result<Self, Failure> {
        let client = Client::open(url.expose_secret()).map_err(|_| Failure::misconfigured("the URL names no Redis"))?;
        Ok(Self { connection: Arc::new(connection::Connection::new(client)), prefix: prefix.to_owned() })
    }

    /// The braces make a cluster place all records of a scope on one node:
    /// <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>.
    fn redis_key(&self, key: &Key) -> String {
        format!("{}:{{{}}}:{}", self.prefix, key.scope, key.name)
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Failure> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<String> = keys.iter().map(|key| self.redis_key(key)).collect();
        let mut connection = self.connection.get().await?;
        let read = script::read(&mut connection, &keys).await;
        self.connection.note(read).map_err(|error| failure::of_read(&error))
    }

    async fn commit(&self, writes: &[Write]) -> Result<Commit, Failure> {
        if writes.is_empty() {
            return Ok(Commit::Applied);
        }
        let keys: Vec<String> = writes.iter().map(|write| self.redis_key(&write.key)).collect();
        let mut connection = self.connection.get().await?;
        let committed = script::commit(&mut connection, &keys, writes).await;
        self.connection.note(committed).map_err(|error| failure::of_write(&error))
    }

    async fn check(&self) -> Result<(), Failure> {
        // A real write: a server that is full, read-only or cannot save refuses it.
        let probe = Write::put(Key::new("check", "probe"), Expect::Anything, "", PROBE_TTL);
        self.commit(&[probe]).await.map(drop)
    }
}
