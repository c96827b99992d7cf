//! The one connection to Redis, made when first used and made again after it was lost.
//!
//! redis-rs' own connection manager hides whether a command was sent at all, which decides whether the outcome of a
//! write is known. Here connecting and asking are two steps.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use message::failure::Failure;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use tokio::time::{Instant, timeout};

use super::failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long Redis may take to answer: with `appendfsync always` an answer waits for the disk.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that was silent for this long is checked with a `PING` before a write is entrusted to it.
const IDLE_LIMIT: Duration = Duration::from_secs(1);
/// How long a connection to the wrong server is kept, at least, so that not every call connects anew.
const BETWEEN_CONNECTIONS: Duration = Duration::from_millis(500);

/// Hands out the connection.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
    current: Mutex<Option<Current>>,
    /// Held by the caller that connects, so that only one does. True once the server's settings were checked.
    connecting: tokio::sync::Mutex<bool>,
}

#[derive(Debug, Clone)]
struct Current {
    connection: MultiplexedConnection,
    made_at: Instant,
    last_answer: Instant,
}

impl Connection {
    pub(super) fn new(client: Client) -> Self {
        Self { client, current: Mutex::new(None), connecting: tokio::sync::Mutex::new(false) }
    }

    /// A connection that answered within the last second.
    pub(super) async fn get(&self) -> Result<MultiplexedConnection, Failure> {
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        let late = |_| Failure::transient("cannot connect to redis in time");
        timeout(CONNECT_TIMEOUT + RESPONSE_TIMEOUT, self.renew()).await.map_err(late)?
    }

    /// Notes the outcome of a command. A missing answer ends the connection, and so does an error that shows the wrong
    /// server.
    pub(super) fn note<T>(&self, result: Result<T, RedisError>) -> Result<T, RedisError> {
        let mut current = self.lock();
        match &result {
            Err(error) if error.code().is_none() => *current = None,
            Err(error) if is_not_the_right_one(error) => {
                // A connection that was made just now is kept for a moment: as long as every attempt leads to such a
                // server, there is no use in connecting for each call.
                if current.as_ref().is_some_and(|current| current.made_at.elapsed() >= BETWEEN_CONNECTIONS) {
                    *current = None;
                }
            }
            _ => {
                if let Some(current) = current.as_mut() {
                    current.last_answer = Instant::now();
                }
            }
        }
        result
    }

    async fn renew(&self) -> Result<MultiplexedConnection, Failure> {
        let mut has_looked = self.connecting.lock().await;
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        if let Some(mut idle) = self.current() {
            let pong: Result<String, _> = redis::cmd("PING").query_async(&mut idle).await;
            if self.note(pong).is_ok() {
                return Ok(idle);
            }
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let connected = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connected.map_err(|error| failure::of_connect(&error))?;
        if !*has_looked {
            *has_looked = true;
            warn_if_forgetful(&mut connection).await;
        }
        let now = Instant::now();
        *self.lock() = Some(Current { connection: connection.clone(), made_at: now, last_answer: now });
        Ok(connection)
    }

    fn fresh(&self) -> Option<MultiplexedConnection> {
        let current = self.lock();
        let current = current.as_ref().filter(|current| current.last_answer.elapsed() < IDLE_LIMIT)?;
        Some(current.connection.clone())
    }

    fn current(&self) -> Option<MultiplexedConnection> {
        self.lock().as_ref().map(|current| current.connection.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error shows that this is the wrong server, so that the next call must connect anew. After a failover the
/// old primary is a replica that goes on answering, while its name leads to the new one.
///
/// Our commands are few and well formed, so an error is nearly always about the server: it is a replica (`READONLY`,
/// `MASTERDOWN`), starts (`LOADING`), lost its cluster (`CLUSTERDOWN`), its replicas (`NOREPLICAS`) or its disk
/// (`MISCONF`), has changed its role or its users (`UNBLOCKED`, `NOAUTH`), or is a proxy that lost its server (`ERR`).
fn is_not_the_right_one(error: &RedisError) -> bool {
    error.code().is_some_and(|code| !ANOTHER_SAYS_THE_SAME.contains(&code))
}

/// Codes that another server would return too: the server is full or busy, the script is not there yet, the user or the
/// key is not allowed.
const ANOTHER_SAYS_THE_SAME: [&str; 6] = ["OOM", "BUSY", "NOSCRIPT", "NOPERM", "WRONGTYPE", "CROSSSLOT"];

/// Warns about settings with which the server may lose data. Managed servers refuse `CONFIG`: then there is no warning.
async fn warn_if_forgetful(connection: &mut MultiplexedConnection) {
    for (name, wanted) in [("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")] {
        let asked = redis::cmd("CONFIG").arg("GET").arg(name).query_async(connection).await;
        let Ok::<HashMap<String, String>, _>(settings) = asked else { return };
        match settings.get(name) {
            Some(found) if found != wanted => tracing::warn!(
                setting = name,
                found,
                wanted,
                "redis may forget what was done: a text could then be sent twice after a crash"
            ),
            _ => {}
        }
    }
}
