//! The one SQLite file of an embedded installation: its tables and its one writer.

mod database;
mod schema;
mod writer;

pub use database::Database;

/// An empty database of the newest schema, for tests of the statements.
#[cfg(test)]
pub(crate) fn migrated() -> rusqlite::Connection {
    let mut connection = rusqlite::Connection::open_in_memory().unwrap();
    schema::migrate(&mut connection).unwrap();
    connection
}
