//! The two operations on Redis, each in one step: read several records, and write several or none.

use std::sync::LazyLock;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Script, pipe};

use crate::{Change, Commit, Expect, Record, Write};

/// `KEYS` are the records, `ARGV` holds four words for each: what is expected (`*`, `-` for absence, or a version),
/// what to do, the value, and its time to live in ms.
///
/// A version is the server's time in microseconds, or one more than the version before if that is later. So it does not
/// repeat when a record expired or was deleted in between, unless the server's clock is set back past that moment.
/// Lua's numbers hold it exactly until the year 2255; it is compared as text.
static COMMIT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
        local versions = {}
        for i, key in ipairs(KEYS) do
            local expected, found = ARGV[4 * i - 3], redis.call('HGET', key, 'n')
            if expected == '-' and found then return 0 end
            if expected ~= '-' and expected ~= '*' and expected ~= found then return 0 end
            versions[i] = found
        end
        local time = redis.call('TIME')
        local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
        for i, key in ipairs(KEYS) do
            if ARGV[4 * i - 2] == 'put' then
                local version = math.max(now, (tonumber(versions[i] or '0')) + 1)
                redis.call('HSET', key, 'v', ARGV[4 * i - 1], 'n', string.format('%.0f', version))
                redis.call('PEXPIRE', key, ARGV[4 * i])
            else
                redis.call('DEL', key)
            end
        end
        return 1
        ",
    )
});

/// Reads the records at `keys`, all at one moment.
pub(super) async fn read(
    connection: &mut MultiplexedConnection,
    keys: &[String],
) -> Result<Vec<Option<Record>>, RedisError> {
    let mut transaction = pipe();
    transaction.atomic();
    for key in keys {
        transaction.hmget(key, &["v", "n"]);
    }
    let found: Vec<(Option<Vec<u8>>, Option<u64>)> = transaction.query_async(connection).await?;
    let record = |(value, version)| Option::zip(value, version);
    let found = found.into_iter().map(record);
    Ok(found.map(|it| it.map(|(value, version)| Record { value: Bytes::from(value), version })).collect())
}

/// Makes all `writes`, whose records lie at `keys`, or none.
pub(super) async fn commit(
    connection: &mut MultiplexedConnection,
    keys: &[String],
    writes: &[Write],
) -> Result<Commit, RedisError> {
    let mut call = COMMIT.prepare_invoke();
    for (key, write) in keys.iter().zip(writes) {
        call.key(key);
        match write.expect {
            Expect::Anything => call.arg("*"),
            Expect::Absent => call.arg("-"),
            Expect::Version(version) => call.arg(version),
        };
        match &write.change {
            Change::Put { value, ttl } => {
                let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, MAX_TTL_MS);
                call.arg("put").arg(value.as_ref()).arg(ttl_ms)
            }
            Change::Delete => call.arg("delete").arg("").arg(""),
        };
    }
    let applied: bool = call.invoke_async(connection).await?;
    Ok(if applied { Commit::Applied } else { Commit::Conflict })
}

/// A hundred years, in ms: Redis refuses times to live that overflow its clock.
const MAX_TTL_MS: u64 = 100 * 366 * 24 * 3_600_000;
