//! The one thread that owns the database connection. It takes every job that waits and commits them together, so many
//! callers share the price of one sync to disk. Reads go through it too: what they see is what is durable.

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::failure::Failure;

/// At most this many jobs share a commit; it bounds how long the first of them waits for the last.
const MAX_BATCH: usize = 256;

/// After this many batches the writer looks whether the file has shrunk inside.
const TRIM_EVERY: u32 = 64;

/// Free pages (4 KiB each) that stay in the file for reuse.
const FREE_PAGES_KEPT: i64 = 4096;

/// A closure for the writer thread and the caller who waits for its answer.
pub(super) trait Job: Send {
    /// Does the work inside the open transaction; if it fails, nothing of it stays.
    fn run(&mut self, connection: &Connection);

    /// Tells the caller, after the commit.
    fn answer(self: Box<Self>, committed: &Result<(), Failure>);
}

/// `work` gives a `T`; `then` is told on the writer thread once that is durable, even when no caller waits any more.
pub(super) struct Task<T, Work, Then> {
    work: Option<Work>,
    then: Then,
    result: Option<rusqlite::Result<T>>,
    caller: oneshot::Sender<Result<T, Failure>>,
}

impl<T, Work, Then> Task<T, Work, Then> {
    pub(super) fn new(work: Work, then: Then, caller: oneshot::Sender<Result<T, Failure>>) -> Self {
        Self { work: Some(work), then, result: None, caller }
    }
}

impl<T, Work, Then> Job for Task<T, Work, Then>
where
    T: Send,
    Work: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
    Then: FnOnce(&T) + Send,
{
    fn run(&mut self, connection: &Connection) {
        if let Some(work) = self.work.take() {
            self.result = Some(in_savepoint(connection, work));
        }
    }

    fn answer(self: Box<Self>, committed: &Result<(), Failure>) {
        let result = match (committed, self.result) {
            (Err(failure), _) => Err(Failure::transient(failure.to_string())),
            (Ok(()), Some(result)) => result.map_err(|e| failure("the embedded database refused a change", &e)),
            (Ok(()), None) => Err(Failure::transient("the embedded database skipped a change")),
        };
        if let Ok(value) = &result {
            (self.then)(value);
        }
        // A caller who stopped waiting needs no answer.
        drop(self.caller.send(result));
    }
}

/// Runs jobs until every sender is gone.
pub(super) fn run(connection: &Connection, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
    let mut batches: u32 = 0;
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH
            && let Ok(job) = jobs.try_recv()
        {
            batch.push(job);
        }
        let committed = commit_together(connection, &mut batch);
        for job in batch {
            job.answer(&committed);
        }
        batches = batches.wrapping_add(1);
        if batches.is_multiple_of(TRIM_EVERY)
            && let Err(error) = trim(connection)
        {
            tracing::warn!(%error, "cannot give free pages of the embedded database back to the disk");
        }
    }
}

fn commit_together(connection: &Connection, batch: &mut [Box<dyn Job>]) -> Result<(), Failure> {
    let committed = try_commit(connection, batch);
    if committed.is_err() && !connection.is_autocommit() {
        // If even this fails, the next BEGIN fails too and says so.
        connection.execute_batch("ROLLBACK").ok();
    }
    committed.map_err(|e| failure("the embedded database cannot write", &e))
}

fn try_commit(connection: &Connection, batch: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    for job in batch {
        job.run(connection);
        if connection.is_autocommit() {
            // A full disk or an I/O error rolls the whole transaction back: https://sqlite.org/lang_transaction.html
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT_ROLLBACK);
            return Err(rusqlite::Error::SqliteFailure(code, None));
        }
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.prepare_cached("SAVEPOINT job")?.execute([])?;
    let result = work(connection);
    if result.is_err() {
        connection.prepare_cached("ROLLBACK TO job")?.execute([])?;
    }
    connection.prepare_cached("RELEASE job")?.execute([])?;
    result
}

/// Gives some of what a past backlog took back to the file system.
fn trim(connection: &Connection) -> rusqlite::Result<()> {
    let free: i64 = connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    if free > FREE_PAGES_KEPT {
        connection.execute_batch("PRAGMA incremental_vacuum(1024)")?;
    }
    Ok(())
}

/// What `error` means: nothing was changed, and the disk may have room again later. SQLite's words name tables and
/// columns, never values.
pub(super) fn failure(what: &str, error: &rusqlite::Error) -> Failure {
    let failure = Failure::transient(what).caused_by(error.to_string());
    match error.sqlite_error() {
        Some(code) => failure.with_code(format!("sqlite {}", code.extended_code)),
        None => failure,
    }
}
