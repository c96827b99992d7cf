//! The tables of the embedded database, as numbered steps: `PRAGMA user_version` says how many a file has taken.

use rusqlite::Connection;

/// Each release appends its changes; a step that was released is never edited.
const STEPS: [&str; 2] = [
    r"
-- Records of the store. A put replaces the row, so its version is new and, by AUTOINCREMENT, never seen before.
CREATE TABLE records (
    version       INTEGER PRIMARY KEY AUTOINCREMENT,
    scope         TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    value         BLOB    NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    UNIQUE (scope, name)
);
CREATE INDEX records_by_expiry ON records (expires_at_ms);

-- Messages that wait for or are held by a consumer, in the order of their numbers.
CREATE TABLE messages (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    stage   TEXT    NOT NULL,
    id      TEXT,
    key     TEXT,
    trace   TEXT    NOT NULL,
    payload BLOB    NOT NULL
);
CREATE INDEX messages_by_stage ON messages (stage, number);

-- Messages parked until a moment; then they move to the end of `messages`.
CREATE TABLE delayed (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    stage     TEXT    NOT NULL,
    id        TEXT,
    key       TEXT,
    trace     TEXT    NOT NULL,
    payload   BLOB    NOT NULL,
    due_at_ms INTEGER NOT NULL
);
CREATE INDEX delayed_by_due ON delayed (stage, due_at_ms, number);

-- Messages set aside for a person.
CREATE TABLE dead_letters (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    stage      TEXT    NOT NULL,
    id         TEXT,
    key        TEXT,
    trace      TEXT    NOT NULL,
    payload    BLOB    NOT NULL,
    reason     TEXT    NOT NULL,
    detail     TEXT    NOT NULL,
    died_at_ms INTEGER NOT NULL
);

-- How many rows each table has for each stage, kept by triggers so that nobody counts rows.
CREATE TABLE depths (
    stage TEXT    NOT NULL,
    place TEXT    NOT NULL,
    depth INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (stage, place)
) WITHOUT ROWID;
INSERT INTO depths (stage, place)
    SELECT stages.column1, places.column1
    FROM (VALUES ('inbound'), ('outbound'), ('receipts')) AS stages,
         (VALUES ('messages'), ('delayed'), ('dead_letters')) AS places;
CREATE TRIGGER messages_in AFTER INSERT ON messages BEGIN
    UPDATE depths SET depth = depth + 1 WHERE stage = NEW.stage AND place = 'messages';
END;
CREATE TRIGGER messages_out AFTER DELETE ON messages BEGIN
    UPDATE depths SET depth = depth - 1 WHERE stage = OLD.stage AND place = 'messages';
END;
CREATE TRIGGER delayed_in AFTER INSERT ON delayed BEGIN
    UPDATE depths SET depth = depth + 1 WHERE stage = NEW.stage AND place = 'delayed';
END;
CREATE TRIGGER delayed_out AFTER DELETE ON delayed BEGIN
    UPDATE depths SET depth = depth - 1 WHERE stage = OLD.stage AND place = 'delayed';
END;
CREATE TRIGGER dead_letters_in AFTER INSERT ON dead_letters BEGIN
    UPDATE depths SET depth = depth + 1 WHERE stage = NEW.stage AND place = 'dead_letters';
END;
CREATE TRIGGER dead_letters_out AFTER DELETE ON dead_letters BEGIN
    UPDATE depths SET depth = depth - 1 WHERE stage = OLD.stage AND place = 'dead_letters';
END;

-- The one row that readiness checks write.
CREATE TABLE probe (only INTEGER PRIMARY KEY CHECK (only = 1), checks INTEGER NOT NULL);
",
    r"
-- A consumer that has enough of a conversation passes it over and comes back to it.
CREATE INDEX messages_by_conversation ON messages (stage, key, number);

-- What a consumer has read and not settled, and how often it was read before. A row that outlives its process says that
-- the message was held when that died; who stops in good order leaves none.
CREATE TABLE held (
    number INTEGER PRIMARY KEY,
    stage  TEXT    NOT NULL,
    times  INTEGER NOT NULL
);
CREATE TRIGGER held_out AFTER DELETE ON messages BEGIN
    DELETE FROM held WHERE number = OLD.number;
END;

-- When a message was parked: a clock that shows less was set back since, and must not prolong the delay.
ALTER TABLE delayed ADD COLUMN parked_at_ms INTEGER NOT NULL DEFAULT 0;
",
];

/// Why a file cannot be brought up to date.
#[derive(Debug, thiserror::Error)]
pub(super) enum SchemaError {
    /// A newer release has changed it.
    #[error("schema {0} is newer than {latest}, the newest this release reads", latest = STEPS.len())]
    Newer(u32),
    /// An older release made it, and it was not brought up to date since.
    #[error("schema {0} is older than {latest}: start this release's switchboard on it first", latest = STEPS.len())]
    Older(u32),
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Takes the steps that the file has not taken yet, each whole or not at all.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), SchemaError> {
    let done: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let mut version = 0;
    for step in STEPS {
        version += 1;
        if version <= done {
            continue;
        }
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    if done > version { Err(SchemaError::Newer(done)) } else { Ok(()) }
}

/// Fails unless the file has the schema of this release.
pub(super) fn is_current(connection: &Connection) -> Result<(), SchemaError> {
    let done: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match usize::try_from(done).unwrap_or(usize::MAX).cmp(&STEPS.len()) {
        std::cmp::Ordering::Less => Err(SchemaError::Older(done)),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(SchemaError::Newer(done)),
    }
}

#[cfg(test)]
mod tests {
    use broker::{Broker as _, Depths, Stage};
    use message::Envelope;
    use message::clock::Clock;
    use store::{Key, Store as _};

    use super::*;
    use crate::EmbeddedBroker;
    use crate::{Database, EmbeddedStore};

    /// Files that earlier releases left, by the number of steps that they had taken.
    const LEFT: [(u32, &str); 1] = [(1, include_str!("../../../../tests/fixtures/database/step1.sql"))];

    #[tokio::test]
    async fn g2_a_file_of_an_earlier_release_is_served() {
        for (step, dump) in LEFT {
            let directory = tempfile::tempdir().unwrap();
            Connection::open(directory.path().join("switchboard.db")).unwrap().execute_batch(dump).unwrap();
            let database = Database::open(directory.path()).unwrap();
            let store = EmbeddedStore::new(database.clone(), Clock::system());
            let [record] = &store.get(&[Key::new("scope", "session")]).await.unwrap()[..] else { panic!("not one") };
            assert_eq!(record.as_ref().unwrap().value, "kept", "step {step}");
            let broker = EmbeddedBroker::new(database, Clock::system());
            for stage in Stage::ALL {
                let delivery = broker.subscribe(stage, 1).next().await;
                Envelope::decode(&delivery.payload).unwrap();
                delivery.settle(&[]).await.unwrap();
            }
            let dead = Depths { dead: 1, ..Depths::default() };
            assert_eq!(broker.depths().await.unwrap(), dead, "step {step}");
        }
    }

    #[test]
    fn migrating_twice_changes_nothing_and_a_newer_file_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        migrate(&mut connection).unwrap();
        let depths: u32 = connection.query_row("SELECT count(*) FROM depths", [], |row| row.get(0)).unwrap();
        assert_eq!(depths, 9);
        connection.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(migrate(&mut connection), Err(SchemaError::Newer(_))));
    }
}
