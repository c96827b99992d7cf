//! The floor of the embedded backend: bare synced commits of SQLite. One thread takes the rows that wait, at most as
//! many as Switchboard's writer takes, and commits them together.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, ensure};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::latency::Percentiles;
use crate::meter::Meter;
use crate::pace::{Arrivals, Pace};

/// The most jobs that share one commit in Switchboard's writer.
const MOST_TOGETHER: usize = 256;

/// The parameters of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The directory in which the file is made.
    pub(crate) directory: PathBuf,
    /// The length of a row in bytes.
    pub(crate) row_bytes: usize,
    /// The number of commits that a text waits for, one after the other, before it counts as through.
    pub(crate) commits: u32,
    /// The number of commits that follow before the text's task ends.
    pub(crate) commits_after: u32,
    /// When texts begin.
    pub(crate) pace: Pace,
    /// The length of the run in seconds.
    pub(crate) seconds: f64,
}

/// The result of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Texts a second that came through.
    pub(crate) rate_per_s: f64,
    /// From the scheduled instant until the text is through.
    pub(crate) latency: Percentiles,
    /// The average number of rows in a commit.
    pub(crate) rows_together: f64,
}

/// Commits as `order` says.
///
/// # Errors
/// When the disk fails.
pub(crate) async fn run(order: Order) -> anyhow::Result<Outcome> {
    let connection = Connection::open(order.directory.join("floor.db"))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE row (id INTEGER PRIMARY KEY, bytes BLOB)",
    )?;
    let (rows, waiting) = mpsc::unbounded_channel();
    let row = vec![b'x'; order.row_bytes];
    let writer = thread::spawn(move || write(&connection, &row, waiting));
    let meter = Arc::new(Meter::start(order.seconds)?);
    let arrivals = Arrivals::start(order.pace, order.seconds);
    let mut texts = JoinSet::new();
    while let Some(due) = arrivals.next().await {
        let (rows, meter, arrivals, order) = (rows.clone(), Arc::clone(&meter), arrivals.clone(), order.clone());
        texts.spawn(async move {
            for _ in 0..order.commits {
                committed(&rows).await?;
            }
            meter.note(due, std::time::Instant::now());
            arrivals.done();
            for _ in 0..order.commits_after {
                committed(&rows).await?;
            }
            anyhow::Ok(())
        });
        while let Some(done) = texts.try_join_next() {
            done??;
        }
    }
    while let Some(done) = texts.join_next().await {
        done??;
    }
    drop(rows);
    let rows_together = writer.join().ok().context("the writer ended")??;
    let (_, rate_per_s, latency) = meter.read();
    Ok(Outcome { rate_per_s, latency, rows_together })
}

type Row = oneshot::Sender<()>;

async fn committed(rows: &mpsc::UnboundedSender<Row>) -> anyhow::Result<()> {
    let (done, wait) = oneshot::channel();
    rows.send(done)?;
    wait.await.context("a commit failed")
}

/// Commits rows until all senders are gone. Returns the average number of rows in a commit.
fn write(connection: &Connection, row: &[u8], mut waiting: mpsc::UnboundedReceiver<Row>) -> anyhow::Result<f64> {
    let (mut written, mut commits) = (0.0_f64, 0.0_f64);
    while let Some(first) = waiting.blocking_recv() {
        let mut together = vec![first];
        while together.len() < MOST_TOGETHER
            && let Ok(next) = waiting.try_recv()
        {
            together.push(next);
        }
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for _ in &together {
            connection.prepare_cached("INSERT INTO row (bytes) VALUES (?1)")?.execute([row])?;
            written += 1.0;
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        commits += 1.0;
        for done in together {
            // A text's task that has ended needs no answer.
            done.send(()).ok();
        }
    }
    ensure!(commits > 0.0, "nothing was committed");
    Ok(written / commits)
}
