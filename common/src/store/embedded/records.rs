//! The SQL of records. An expired record counts as absent from that moment on; its row is purged a little later.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::{Change, Commit, Expect, Key, Record, Write};

/// At most this many expired rows go with one commit: more than commits usually add, so they cannot pile up.
const PURGED_PER_COMMIT: u32 = 16;

/// The record at `key`, unless it has expired.
pub(super) fn read(connection: &Connection, key: &Key, now_ms: i64) -> rusqlite::Result<Option<Record>> {
    const SELECT: &str = "SELECT value, version FROM records WHERE scope = ?1 AND name = ?2 AND expires_at_ms > ?3";
    let record = |row: &rusqlite::Row<'_>| {
        Ok(Record { value: Bytes::from(row.get::<_, Vec<u8>>(0)?), version: row.get::<_, i64>(1)?.cast_unsigned() })
    };
    connection.prepare_cached(SELECT)?.query_row(params![key.scope, key.name, now_ms], record).optional()
}

/// Makes all writes if every expectation is met before the first.
pub(super) fn commit(connection: &Connection, writes: &[Write], now_ms: i64) -> rusqlite::Result<Commit> {
    for write in writes {
        if !is_as_expected(connection, write, now_ms)? {
            return Ok(Commit::Conflict);
        }
    }
    for write in writes {
        match &write.change {
            Change::Put { value, ttl } => put(connection, &write.key, value, now_ms.saturating_add(whole_ms(*ttl)))?,
            Change::Delete => delete(connection, &write.key)?,
        }
    }
    purge(connection, now_ms)?;
    Ok(Commit::Applied)
}

fn is_as_expected(connection: &Connection, write: &Write, now_ms: i64) -> rusqlite::Result<bool> {
    const SELECT: &str = "SELECT version FROM records WHERE scope = ?1 AND name = ?2 AND expires_at_ms > ?3";
    if write.expect == Expect::Anything {
        return Ok(true);
    }
    let found: Option<i64> = connection
        .prepare_cached(SELECT)?
        .query_row(params![write.key.scope, write.key.name, now_ms], |row| row.get(0))
        .optional()?;
    Ok(match write.expect {
        Expect::Anything => true,
        Expect::Absent => found.is_none(),
        Expect::Version(version) => found.map(i64::cast_unsigned) == Some(version),
    })
}

fn put(connection: &Connection, key: &Key, value: &[u8], expires_at_ms: i64) -> rusqlite::Result<()> {
    const REPLACE: &str = "INSERT OR REPLACE INTO records (scope, name, value, expires_at_ms) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(REPLACE)?.execute(params![key.scope, key.name, value, expires_at_ms]).map(drop)
}

fn delete(connection: &Connection, key: &Key) -> rusqlite::Result<()> {
    const DELETE: &str = "DELETE FROM records WHERE scope = ?1 AND name = ?2";
    connection.prepare_cached(DELETE)?.execute(params![key.scope, key.name]).map(drop)
}

fn purge(connection: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    const PURGE: &str = "DELETE FROM records WHERE version IN
        (SELECT version FROM records WHERE expires_at_ms <= ?1 ORDER BY expires_at_ms LIMIT ?2)";
    connection.prepare_cached(PURGE)?.execute(params![now_ms, PURGED_PER_COMMIT]).map(drop)
}

/// Whole milliseconds, at least one: a record lives a little longer rather than shorter.
fn whole_ms(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX).max(1)
}
