//! The one SQLite file of an embedded installation, shared by its broker and its store.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use message::failure::Failure;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::schema::{SchemaError, is_current, migrate};
use super::writer::{self, Job, Task};

const FILE_NAME: &str = "switchboard.db";
const LOCK_NAME: &str = "switchboard.lock";

/// How long a commit waits for a commit of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Jobs that may wait for the writer; callers beyond wait for room, so memory stays bounded.
const MAX_WAITING: usize = 1024;

/// The embedded database, with its one writer thread. Cheap to clone; dropping the last clone writes the jobs that were
/// taken and frees the file.
#[derive(Debug, Clone)]
pub struct Database(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Database {
    /// Opens `switchboard.db` in `data_dir`, and creates both if they are missing. Blocks for as long as the disk
    /// takes.
    ///
    /// # Errors
    /// Misconfigured when another process uses the directory, it cannot be written, or a newer release made the file;
    /// transient when the disk fails.
    pub fn open(data_dir: &Path) -> Result<Self, Failure> {
        let named = data_dir.display();
        let unusable = |e: std::io::Error| {
            Failure::misconfigured(format!("the data directory {named} cannot be used")).caused_by(e)
        };
        make_private_dir(data_dir).map_err(unusable)?;
        let lock = private_file(&data_dir.join(LOCK_NAME)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::misconfigured(format!("another switchboard process uses {named}")));
            }
            Err(TryLockError::Error(e)) => return Err(unusable(e)),
        }
        let file = data_dir.join(FILE_NAME);
        // SQLite gives its `-wal` and `-shm` the mode of the database, which it would make readable for all.
        drop(private_file(&file).map_err(unusable)?);
        let connection = Connection::open(file).map_err(|e| cannot_open(&e))?;
        Self::start(connection, Some(lock))
    }

    /// Opens the `switchboard.db` that is in `data_dir`, also while another process has the directory: for short work
    /// beside it, such as replaying dead letters. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// Misconfigured when there is no such file, or another release made it; transient when the disk fails.
    pub fn open_beside(data_dir: &Path) -> Result<Self, Failure> {
        let file = data_dir.join(FILE_NAME);
        if !file.is_file() {
            let named = file.display();
            return Err(Failure::misconfigured(format!("there is no {named}: name the directory with data_dir")));
        }
        let connection = Connection::open(file).map_err(|e| cannot_open(&e))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|e| cannot_open(&e))?;
        // Only the process that owns the directory migrates the file.
        is_current(&connection).map_err(unusable)?;
        configure(&connection).map_err(|e| cannot_open(&e))?;
        Self::spawn(connection, None)
    }

    /// A database in memory, for tests. It is gone with its last clone.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn in_memory() -> Result<Self, Failure> {
        Self::start(Connection::open_in_memory().map_err(|e| cannot_open(&e))?, None)
    }

    fn start(mut connection: Connection, lock: Option<File>) -> Result<Self, Failure> {
        configure(&connection).map_err(|e| cannot_open(&e))?;
        migrate(&mut connection).map_err(unusable)?;
        Self::spawn(connection, lock)
    }

    fn spawn(connection: Connection, lock: Option<File>) -> Result<Self, Failure> {
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let work = move || {
            writer::run(&connection, waiting);
            // The file is closed before the next process may open it.
            drop(connection);
            drop(lock);
        };
        let thread = thread::Builder::new().name("embedded-db".to_owned()).spawn(work);
        let thread = thread.map_err(|e| Failure::transient("cannot start the database's thread").caused_by(e))?;
        Ok(Self(Arc::new(Handle { jobs: Some(jobs), thread: Some(thread) })))
    }

    /// Runs `work` in a transaction of its own and returns once that is durable.
    ///
    /// # Errors
    /// Transient when `work` or the commit failed. Nothing of `work` stays.
    pub(crate) async fn run<T, Work>(&self, work: Work) -> Result<T, Failure>
    where
        T: Send + 'static,
        Work: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.run_then(work, |_| {}).await
    }

    /// Like [`Database::run`]; `then` is called once `work` is durable, even when this future was dropped before that.
    /// It runs on the writer thread and must not block.
    pub(crate) async fn run_then<T, Work, Then>(&self, work: Work, then: Then) -> Result<T, Failure>
    where
        T: Send + 'static,
        Work: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        Then: FnOnce(&T) + Send + 'static,
    {
        let gone = || Failure::transient("the embedded database's thread has ended");
        let (caller, answer) = oneshot::channel();
        let jobs = self.0.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(Box::new(Task::new(work, then, caller))).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Makes one small durable write.
    ///
    /// # Errors
    /// When a write would fail now.
    pub(crate) async fn check(&self) -> Result<(), Failure> {
        const COUNT: &str =
            "INSERT INTO probe (only, checks) VALUES (1, 1) ON CONFLICT DO UPDATE SET checks = checks + 1";
        self.run(|connection| connection.prepare_cached(COUNT)?.execute([]).map(drop)).await
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the embedded database's thread has panicked");
        }
    }
}

/// Opens the file at `path`, or creates one that only our own user may read: it holds texts and numbers. An existing
/// file that others may read is logged and left as it is: its owner may have meant it.
fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions()) & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "other users of this machine can read this file: make its mode 0600");
    }
    Ok(file)
}

/// Creates a directory that only our own user may read: it holds texts and numbers.
fn make_private_dir(dir: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(dir)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // auto_vacuum takes effect only before the first page is written, so it comes first.
    connection.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;",
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn unusable(error: SchemaError) -> Failure {
    match error {
        SchemaError::Sqlite(error) => cannot_open(&error),
        SchemaError::Newer(_) | SchemaError::Older(_) => {
            Failure::misconfigured("the embedded database cannot be used").caused_by(error)
        }
    }
}

fn cannot_open(error: &rusqlite::Error) -> Failure {
    writer::failure("the embedded database cannot be opened", error)
}

#[cfg(test)]
mod tests {
    use message::failure::FailureKind;

    use super::*;

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("not/there/yet");
        let first = Database::open(&data_dir).unwrap();
        let refused = Database::open(&data_dir).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Misconfigured);
        assert_eq!(refused.to_string(), format!("another switchboard process uses {}", data_dir.display()));
        let clone = first.clone();
        drop(first);
        assert!(Database::open(&data_dir).is_err(), "a clone still uses it");
        drop(clone);
        Database::open(&data_dir).unwrap();
    }

    #[test]
    fn beside_the_owner_only_a_file_of_this_release_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |dir: &Path| Database::open_beside(dir).unwrap_err();
        assert_eq!(refused(dir.path()).kind, FailureKind::Misconfigured);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is made");
        let owner = Database::open(dir.path()).unwrap();
        Database::open_beside(dir.path()).unwrap();
        drop(owner);
        for version in [0, 99] {
            let connection = Connection::open(dir.path().join(FILE_NAME)).unwrap();
            connection.pragma_update(None, "user_version", version).unwrap();
            let refused = refused(dir.path());
            assert_eq!(refused.kind, FailureKind::Misconfigured, "{refused}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn b9_only_our_own_user_may_read_what_lies_in_a_directory_that_was_there_before() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let database = Database::open(dir.path()).unwrap();
        database.check().await.unwrap();
        let modes = || {
            let files = std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap);
            let mode = |file: std::fs::DirEntry| {
                let mode = file.metadata().unwrap().permissions().mode() & 0o777;
                (file.file_name().into_string().unwrap(), format!("{mode:o}"))
            };
            files.map(mode).collect::<std::collections::BTreeMap<_, _>>()
        };
        let found = modes();
        assert!(found.contains_key("switchboard.db-wal") && found.contains_key("switchboard.db-shm"), "{found:?}");
        assert!(found.values().all(|mode| mode == "600"), "{found:?}");
        // A file that its owner made readable for others stays so.
        drop(database);
        std::fs::set_permissions(dir.path().join(FILE_NAME), std::fs::Permissions::from_mode(0o640)).unwrap();
        let database = Database::open(dir.path()).unwrap();
        database.check().await.unwrap();
        assert_eq!(modes()["switchboard.db"], "640");
    }

    #[test]
    fn what_cannot_be_a_data_directory_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = Database::open(file.path()).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Misconfigured);
        assert!(refused.to_string().contains(&file.path().display().to_string()), "{refused}");
    }

    #[test]
    fn a_file_that_is_no_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), "not a database, but long enough to look at it".repeat(100))
            .unwrap();
        assert!(Database::open(dir.path()).is_err());
    }

    #[tokio::test]
    async fn the_file_is_set_up_for_durable_commits() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path()).unwrap();
        let setting = |name: &'static str| {
            database
                .run(move |c| c.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0)))
        };
        assert_eq!(setting("journal_mode").await.unwrap(), "wal".to_owned().into());
        assert_eq!(setting("synchronous").await.unwrap(), 2.into());
        assert_eq!(setting("auto_vacuum").await.unwrap(), 2.into());
        database.check().await.unwrap();
    }
}
