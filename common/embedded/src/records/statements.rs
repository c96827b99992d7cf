//! The SQL of records. An expired record counts as absent from that moment on; its row is purged a little later.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};
use store::{Change, Commit, Expect, Key, Record, Write};

/// At most this many expired rows are deleted with one commit: more than a commit usually adds, so they cannot pile up.
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::file::migrated;

    #[derive(Debug, Clone)]
    enum Step {
        Commit(Vec<(u8, Condition, Option<u16>)>),
        Pass(u8),
    }

    #[derive(Debug, Clone, Copy)]
    enum Condition {
        Anything,
        Absent,
        Unchanged,
        Stale,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        use Condition::{Absent, Anything, Stale, Unchanged};
        let condition = prop_oneof![4 => Just(Anything), 2 => Just(Absent), 2 => Just(Unchanged), 1 => Just(Stale)];
        let write = (0..4_u8, condition, prop::option::weighted(0.8, 0..60_u16));
        let step = prop_oneof![
            3 => prop::collection::vec(write, 1..4).prop_map(Step::Commit),
            1 => (0..40_u8).prop_map(Step::Pass),
        ];
        prop::collection::vec(step, 1..40)
    }

    /// What a record's value, version and end should be, by key.
    type Model = BTreeMap<u8, (Bytes, u64, i64)>;

    fn key(name: u8) -> Key {
        Key::new("scope", name.to_string())
    }

    fn write_of(model: &Model, value: u32, (name, condition, ttl_ms): (u8, Condition, Option<u16>)) -> Write {
        let found = model.get(&name).map(|(_, version, _)| *version);
        let expect = match condition {
            Condition::Anything => Expect::Anything,
            Condition::Absent => Expect::Absent,
            Condition::Unchanged => found.map_or(Expect::Absent, Expect::Version),
            Condition::Stale => Expect::Version(found.unwrap_or(1_000_000) + 1_000_000),
        };
        match ttl_ms {
            Some(ms) => Write::put(key(name), expect, value.to_string(), Duration::from_millis(ms.into())),
            None => Write::delete(key(name), expect),
        }
    }

    fn is_met(model: &Model, name: u8, expect: Expect) -> bool {
        match expect {
            Expect::Anything => true,
            Expect::Absent => !model.contains_key(&name),
            Expect::Version(version) => model.get(&name).is_some_and(|(_, found, _)| *found == version),
        }
    }

    proptest! {
        #[test]
        fn records_behave_like_a_map_with_ends(steps in steps()) {
            let connection = migrated();
            let (mut model, mut versions) = (Model::new(), BTreeSet::new());
            let (mut now_ms, mut value) = (1_000, 0);
            for step in steps {
                let Step::Commit(writes) = step else {
                    let Step::Pass(ms) = step else { unreachable!() };
                    now_ms += i64::from(ms);
                    model.retain(|_, (_, _, end)| *end > now_ms);
                    continue;
                };
                value += 1;
                let named: Vec<_> = writes.iter().map(|write| (write.0, write_of(&model, value, *write))).collect();
                let all_met = named.iter().all(|(name, write)| is_met(&model, *name, write.expect));
                let only: Vec<_> = named.iter().map(|(_, write)| write.clone()).collect();
                let result = commit(&connection, &only, now_ms).unwrap();
                prop_assert_eq!(result == Commit::Applied, all_met);
                for (name, write) in named.into_iter().filter(|_| all_met) {
                    match write.change {
                        Change::Put { value, ttl } => model.insert(name, (value, 0, now_ms + whole_ms(ttl))),
                        Change::Delete => model.remove(&name),
                    };
                }
                for name in 0..4 {
                    let found = read(&connection, &key(name), now_ms).unwrap();
                    let expected = model.get_mut(&name);
                    prop_assert_eq!(found.as_ref().map(|r| &r.value), expected.as_ref().map(|(value, _, _)| value));
                    let (Some(found), Some(expected)) = (found, expected) else { continue };
                    if expected.1 == 0 {
                        expected.1 = found.version;
                        prop_assert!(versions.insert(found.version), "a version came again");
                    }
                    prop_assert_eq!(found.version, expected.1);
                }
            }
        }
    }

    #[test]
    fn expired_rows_are_purged_by_later_commits() {
        let connection = migrated();
        let put = |name: u32, now_ms| {
            let write = Write::put(Key::new("s", name.to_string()), Expect::Anything, "v", Duration::from_millis(10));
            assert_eq!(commit(&connection, &[write], now_ms).unwrap(), Commit::Applied);
        };
        (0..100).for_each(|name| put(name, 0));
        (100..110).for_each(|name| put(name, 1_000));
        let rows: u32 = connection.query_row("SELECT count(*) FROM records", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 10);
    }
}
