//! Heartbeats: RabbitMQ reports neither the age of a queue's oldest message nor that a queue has stopped delivering. So
//! a small message goes through every partition of an ordered stage in every round, and the store keeps which one came
//! out last. Every process of the role, also one on standby, then knows the age of each partition.
//!
//! The process that first finds a round over begins the next one, in one commit, and publishes its heartbeats. Ages are
//! counted in rounds and in steady time, so no two clocks are compared.

mod beat;
mod book;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::{Broker, Stage};
use message::ConversationKey;
use message::failure::{Failure, FailureKind};
use message::shutdown::Shutdown;
use store::Store;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::Progress;
use super::progress::Pulse;

pub(super) use beat::Beat;
pub use beat::is_heartbeat;
use book::Book;

/// A partition whose heartbeats do not come out gets one only every 4 rounds, and from [`SELDOM_AFTER`] rounds on only
/// every [`SELDOM_AFTER`] rounds: heartbeats must not fill up its queue.
const SELDOM: u64 = 4;
const SELDOM_AFTER: u64 = 240;
/// Heartbeats that came out are gathered for a fiftieth of a round before they are written to the store: those of a
/// round come together.
const GATHERING: u32 = 50;

/// How often heartbeats are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// How long a round takes, at least.
    pub every: Duration,
    /// How long a process runs before it begins the very first round of an installation. An older release that runs
    /// beside it during an upgrade takes a heartbeat for an unreadable message, and makes it a dead letter.
    pub first_after: Duration,
}

impl Rhythm {
    /// 15 s: an alert after two minutes has seen several, and the load on the queues is negligible.
    pub const EVERY: Duration = Duration::from_secs(15);
    /// 10 min: longer than a rolling upgrade usually takes.
    pub const UPGRADE: Duration = Duration::from_secs(600);
}

/// The heartbeats of one stage, in one process.
#[derive(Debug)]
pub(super) struct Heartbeats {
    stage: Stage,
    partitions: u16,
    broker: Arc<dyn Broker>,
    store: Arc<dyn Store>,
    rhythm: Rhythm,
    progress: Arc<Progress>,
    /// What came out and is not in the store yet, by partition: the newest heartbeat's round; `None` if only messages
    /// came.
    came: Mutex<BTreeMap<u16, Option<u64>>>,
    beaten: Notify,
}

/// The round, and since when this process has known it.
#[derive(Debug, Clone, Copy)]
struct Known {
    round: u64,
    since: Instant,
}

/// The partitions whose last heartbeat certainly did not reach the queue.
type Missed = BTreeSet<u16>;

impl Heartbeats {
    pub(super) fn new(
        stage: Stage,
        broker: Arc<dyn Broker>,
        store: Arc<dyn Store>,
        rhythm: Rhythm,
        progress: Arc<Progress>,
    ) -> Self {
        let partitions = broker.partitions(stage);
        Self { stage, partitions, broker, store, rhythm, progress, came: Mutex::default(), beaten: Notify::new() }
    }

    /// Records a heartbeat that came out of its partition.
    pub(super) fn met(&self, beat: Beat) {
        self.note(beat.partition, Some(beat.round));
        self.beaten.notify_one();
    }

    /// Records that a message of the conversation with `key` came out of its partition.
    pub(super) fn passed(&self, key: ConversationKey) {
        self.note(key.partition(self.partitions), None);
    }

    fn note(&self, partition: u16, round: Option<u64>) {
        let mut came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        let known = came.entry(partition).or_default();
        *known = (*known).max(round);
    }

    /// Begins rounds when they are due and writes what came out to the store, until `shutdown`.
    pub(super) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let began = Instant::now();
        let mut known = Known { round: 0, since: began };
        let (mut missed, mut publishing) = (Missed::new(), JoinSet::new());
        let mut look_at = began;
        loop {
            let turned = tokio::select! {
                () = shutdown.started() => return,
                () = sleep_until(look_at) => {
                    let may_be_first = began.elapsed() >= self.rhythm.first_after;
                    let turned = self.turn(&mut known, may_be_first, &mut missed, &mut publishing).await;
                    let is_known = turned.is_ok() && known.round > 0;
                    look_at = if is_known { known.since } else { Instant::now() } + self.rhythm.every;
                    turned
                }
                () = self.beaten.notified() => {
                    sleep(self.rhythm.every / GATHERING).await;
                    self.write_down(&mut known).await.map(drop)
                }
                Some(Ok(failed)) = publishing.join_next() => {
                    missed.extend(failed);
                    Ok(())
                }
            };
            if let Err(failure) = turned {
                // Logged at debug level only: the parts that cannot work without the store report its absence.
                tracing::debug!(stage = self.stage.as_str(), %failure, "heartbeats are not written down");
                self.progress.set_pulse(None);
            }
        }
    }

    /// Begins a round if the last one is over and no other process has begun one.
    async fn turn(
        &self,
        known: &mut Known,
        may_be_first: bool,
        missed: &mut Missed,
        publishing: &mut JoinSet<Option<u16>>,
    ) -> Result<(), Failure> {
        let mut book = self.write_down(known).await?;
        let is_over = if book.round == 0 { may_be_first } else { known.since.elapsed() >= self.rhythm.every };
        if !is_over {
            return Ok(());
        }
        let is_ours = book.begin_round(&*self.store).await?;
        self.learn(known, &book);
        if !is_ours {
            return Ok(());
        }
        for partition in 0..self.partitions {
            let heartbeat = book.seen.get(usize::from(partition)).map_or(0, |seen| seen.heartbeat);
            if missed.remove(&partition) || is_due(book.round.saturating_sub(heartbeat)) {
                let (broker, beat) = (Arc::clone(&self.broker), Beat { partition, round: book.round }.to(self.stage));
                publishing.spawn(async move { not_taken(broker.publish(&[beat]).await).then_some(partition) });
            }
        }
        Ok(())
    }

    /// Reads the records, and writes what came out since the last time.
    async fn write_down(&self, known: &mut Known) -> Result<Book, Failure> {
        let came = std::mem::take(&mut *self.came.lock().unwrap_or_else(PoisonError::into_inner));
        let written = async {
            let mut book = Book::read(&*self.store, self.stage, self.partitions).await?;
            let is_written = book.note(&*self.store, &came).await?;
            Ok((book, is_written))
        };
        let (book, is_written) = written.await.inspect_err(|_| self.keep(&came))?;
        if !is_written {
            self.keep(&came);
        }
        self.learn(known, &book);
        Ok(book)
    }

    /// Keeps what could not be written to the store for the next time.
    fn keep(&self, came: &BTreeMap<u16, Option<u64>>) {
        came.iter().for_each(|(partition, round)| self.note(*partition, *round));
    }

    /// Passes the state of the records on to readiness and metrics.
    fn learn(&self, known: &mut Known, book: &Book) {
        if book.round != known.round {
            *known = Known { round: book.round, since: Instant::now() };
        }
        let silent = |seen: u64| u32::try_from(book.round.saturating_sub(seen)).unwrap_or(u32::MAX);
        let rounds = book.seen.iter().map(|seen| (silent(seen.heartbeat), silent(seen.anything)));
        // Before the first round nothing is known.
        let pulse = (book.round > 0).then(|| Pulse {
            round_began: known.since,
            every: self.rhythm.every,
            rounds_missed: rounds.collect(),
        });
        self.progress.set_pulse(pulse);
    }
}

/// Whether a partition gets a heartbeat in this round, if its newest one belongs to the round `behind` rounds before.
fn is_due(behind: u64) -> bool {
    match behind {
        // At a distance of two as well: the last heartbeat may have come just after its round.
        0..=2 => true,
        3..SELDOM_AFTER => behind.is_multiple_of(SELDOM),
        _ => behind.is_multiple_of(SELDOM_AFTER),
    }
}

/// Whether a heartbeat certainly is not in its queue. After an unknown result it may be there.
fn not_taken(published: Result<(), Failure>) -> bool {
    published.is_err_and(|failure| failure.kind != FailureKind::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_hands_nothing_out_collects_one_heartbeat_a_minute_for_an_hour_and_then_one_an_hour() {
        let published = |rounds: std::ops::Range<u64>| rounds.filter(|behind| is_due(*behind)).count();
        assert_eq!(published(1..240), 2 + 59);
        assert_eq!(published(240..240 * 24), 23);
    }
}
