//! The one thread that owns the database connection. It takes all waiting jobs and commits them together, so that many
//! callers share the cost of one sync to disk. Reads go through it too, so they see only what is durable.

use std::panic::{AssertUnwindSafe, catch_unwind};

use message::failure::Failure;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

/// At most this many jobs share a commit; it bounds how long the first of them waits for the last.
const MAX_BATCH: usize = 256;

/// After this many batches the writer checks the file for free pages.
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

/// `work` returns a `T`. `then` is called with it on the writer thread once it is durable, even when no caller waits
/// any more.
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
            self.result = in_savepoint(connection, work).transpose();
        }
    }

    fn answer(self: Box<Self>, committed: &Result<(), Failure>) {
        let result = match (committed, self.result) {
            (_, Some(Err(e))) => Err(failure("the embedded database refused a change", &e)),
            (Err(failure), _) => Err(Failure::transient(failure.to_string())),
            (Ok(()), Some(Ok(value))) => Ok(value),
            (Ok(()), None) => Err(Failure::transient("the embedded database could not make a change")),
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

/// Runs `work` in a savepoint. Returns `None` when it panicked: nothing of it stays, and the thread goes on for the
/// other jobs.
fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    connection.prepare_cached("SAVEPOINT job")?.execute([])?;
    let worked = catch_unwind(AssertUnwindSafe(|| work(connection)));
    let result = worked.map_or(Ok(None), |result| result.map(Some));
    let stays = matches!(result, Ok(Some(_)));
    // A failure that rolled everything back has removed the savepoint too. That failure is the one to return.
    if stays || !connection.is_autocommit() {
        if !stays {
            connection.prepare_cached("ROLLBACK TO job")?.execute([])?;
        }
        connection.prepare_cached("RELEASE job")?.execute([])?;
    }
    result
}

/// Gives some of the pages that a past backlog took back to the file system.
fn trim(connection: &Connection) -> rusqlite::Result<()> {
    let free: i64 = connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    if free > FREE_PAGES_KEPT {
        connection.execute_batch("PRAGMA incremental_vacuum(1024)")?;
    }
    Ok(())
}

/// The failure for `error`: nothing was changed, and the disk may have room again later. SQLite's words name tables and
/// columns, never values.
pub(super) fn failure(what: &str, error: &rusqlite::Error) -> Failure {
    let failure = Failure::transient(what).caused_by(error.to_string());
    match error.sqlite_error() {
        Some(code) => failure.with_code(format!("sqlite {}", code.extended_code)),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use message::failure::FailureKind;

    use super::*;
    use crate::Database;

    /// Runs `works` in one commit; returns what each caller was told.
    fn run_together<Work>(connection: &Connection, works: Vec<Work>) -> Vec<Result<(), FailureKind>>
    where
        Work: FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    {
        let (callers, answers): (Vec<_>, Vec<_>) = works.iter().map(|_| oneshot::channel()).unzip();
        let job = |(work, caller)| -> Box<dyn Job> { Box::new(Task::new(work, |_: &()| {}, caller)) };
        let mut batch: Vec<_> = works.into_iter().zip(callers).map(job).collect();
        let committed = commit_together(connection, &mut batch);
        for job in batch {
            job.answer(&committed);
        }
        answers.into_iter().map(|mut answer| answer.try_recv().unwrap().map_err(|failure| failure.kind)).collect()
    }

    fn with_numbers() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY, bytes BLOB)", []).unwrap();
        connection
    }

    fn insert(connection: &Connection, number: u32, bytes: u32) -> rusqlite::Result<()> {
        connection.execute("INSERT INTO numbers VALUES (?1, zeroblob(?2))", [number, bytes]).map(drop)
    }

    fn numbers(connection: &Connection) -> Vec<u32> {
        let mut statement = connection.prepare("SELECT number FROM numbers ORDER BY number").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn one_failing_job_leaves_the_others_of_its_commit_alone() {
        let connection = with_numbers();
        // The second job fails at its second number, which is there already.
        let jobs = [[1, 2], [3, 1], [4, 5]];
        let works = jobs.map(|numbers| {
            move |connection: &Connection| numbers.iter().try_for_each(|number| insert(connection, *number, 0))
        });
        let told = run_together(&connection, works.into());
        assert_eq!(told, [Ok(()), Err(FailureKind::Transient), Ok(())]);
        assert_eq!(numbers(&connection), [1, 2, 4, 5]);
    }

    #[test]
    fn a_job_that_rolls_everything_back_fails_the_whole_commit_and_nothing_else() {
        let connection = with_numbers();
        connection.query_row("PRAGMA max_page_count = 50", [], |_| Ok(())).unwrap();
        let works = |sizes: [u32; 3]| {
            let work = |(bytes, number)| move |connection: &Connection| insert(connection, number, bytes);
            sizes.into_iter().zip(1..).map(work).collect()
        };
        assert_eq!(run_together(&connection, works([1, 1_000_000, 1])), [Err(FailureKind::Transient); 3]);
        assert_eq!(numbers(&connection), [0; 0]);
        assert_eq!(run_together(&connection, works([1, 1, 1])), [Ok(()); 3]);
        assert_eq!(numbers(&connection), [1, 2, 3]);
    }

    #[test]
    fn a_job_that_panics_fails_alone_and_leaves_nothing() {
        let connection = with_numbers();
        let work = |number| {
            move |connection: &Connection| {
                insert(connection, number, 0)?;
                assert_ne!(number, 2, "on purpose");
                Ok(())
            }
        };
        let told = run_together(&connection, [1, 2, 3].map(work).into());
        assert_eq!(told, [Ok(()), Err(FailureKind::Transient), Ok(())]);
        assert_eq!(numbers(&connection), [1, 3]);
    }

    #[tokio::test]
    async fn what_follows_a_commit_happens_although_the_caller_has_gone() {
        let database = Database::in_memory().unwrap();
        let (told, mut hears) = mpsc::unbounded_channel();
        let (leave, left) = std::sync::mpsc::channel();
        let work = move |_: &Connection| {
            left.recv().unwrap();
            Ok(7)
        };
        let run = database.run_then(work, move |number| told.send(*number).unwrap());
        // One poll hands the job over; then the caller leaves.
        tokio::select! {
            biased;
            _ = run => panic!("it waits for the caller to leave"),
            () = std::future::ready(()) => {}
        }
        leave.send(()).unwrap();
        assert_eq!(hears.recv().await, Some(7));
    }

    #[tokio::test]
    async fn a_full_disk_is_a_transient_failure_and_passes() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path()).unwrap();
        let limit =
            |pages: u32| move |c: &Connection| c.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()));
        database.run(|c| c.execute_batch("CREATE TABLE large (bytes BLOB)")).await.unwrap();
        let add = |c: &Connection| c.execute("INSERT INTO large VALUES (zeroblob(50000))", []).map(drop);
        database.run(limit(100)).await.unwrap();
        let mut added = 0;
        let failure = loop {
            match database.run(add).await {
                Ok(()) => added += 1,
                Err(failure) => break failure,
            }
            assert!(added < 100, "the limit does not hold");
        };
        assert_eq!((failure.kind, failure.code.as_deref()), (FailureKind::Transient, Some("sqlite 13")));
        let count = |c: &Connection| c.query_row("SELECT count(*) FROM large", [], |row| row.get::<_, u32>(0));
        assert_eq!(database.run(count).await.unwrap(), added);
        database.run(limit(1000)).await.unwrap();
        database.run(add).await.unwrap();
        assert_eq!(database.run(count).await.unwrap(), added + 1);
    }
}
