//! The calls to Redis by Switchboard and by the floor: counted, and their records removed between rounds.

use redis::aio::MultiplexedConnection;

/// The number of keys that one scan asks for.
const AT_ONCE: u32 = 1000;

/// A connection to Redis.
#[derive(Debug)]
pub(crate) struct Records {
    connection: MultiplexedConnection,
    prefix: String,
}

/// The number of Redis calls since the server started, by all clients. Each is one round trip of ours: a read is a
/// transaction, a write is a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trips {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
}

impl Records {
    /// Connects. The records' keys begin with `prefix`.
    ///
    /// # Errors
    /// When Redis is away.
    pub(crate) async fn open(redis_url: &str, prefix: &str) -> anyhow::Result<Self> {
        let connection = redis::Client::open(redis_url)?.get_multiplexed_async_connection().await?;
        Ok(Self { connection, prefix: prefix.to_owned() })
    }

    /// The number of calls so far.
    ///
    /// # Errors
    /// When Redis is away.
    pub(crate) async fn trips(&self) -> anyhow::Result<Trips> {
        let told: String = redis::cmd("INFO").arg("commandstats").query_async(&mut self.connection.clone()).await?;
        Ok(Trips { reads: calls(&told, "exec"), writes: calls(&told, "evalsha") })
    }

    /// Removes all records.
    ///
    /// # Errors
    /// When Redis is away.
    pub(crate) async fn clear(&self) -> anyhow::Result<()> {
        let mut connection = self.connection.clone();
        let pattern = format!("{}:*", self.prefix);
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(AT_ONCE);
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await?;
            if !keys.is_empty() {
                redis::cmd("UNLINK").arg(keys).exec_async(&mut connection).await?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}

/// The number of calls of `command`, from a line such as `cmdstat_exec:calls=12,usec=…`.
fn calls(told: &str, command: &str) -> u64 {
    let start = format!("cmdstat_{command}:calls=");
    let count = told.lines().find_map(|line| line.strip_prefix(&start)).and_then(|rest| rest.split(',').next());
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_from_what_redis_tells() {
        let told = "# Commandstats\r\ncmdstat_exec:calls=12,usec=4\r\ncmdstat_evalsha:calls=345,usec=1\r\n";
        assert_eq!((calls(told, "exec"), calls(told, "evalsha"), calls(told, "get")), (12, 345, 0));
    }
}
