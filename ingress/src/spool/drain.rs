//! Publishes what is in the spool, oldest first, until nothing is left; it is also who finds out that the broker is
//! back.

use std::sync::Arc;
use std::time::Duration;

use common::broker::{Broker, Destination, Outgoing};
use common::failure::Failure;
use common::message::Envelope;
use common::retry::{Backoff, RetryPolicy};
use common::shutdown::Shutdown;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::position::Position;
use super::record::{self, Read, Record};
use super::writer::Command;
use super::{Spool, segment};

/// As many messages are published at a time as the broker keeps unconfirmed.
const LARGEST_BATCH: usize = 100;
/// How long a batch may take: longer than an adapter's own deadline.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a segment that cannot be read is tried again before it is laid aside.
const READS: u32 = 5;

/// Publishes the spool.
#[derive(Debug)]
pub(crate) struct Drain {
    spool: Spool,
    broker: Arc<dyn Broker>,
    /// What was read of a segment, and how much of that is published.
    bytes: Vec<u8>,
    done_bytes: usize,
    /// The segment it was read from, and where it begins there.
    segment: u64,
    from: u64,
    backoff: Backoff,
    /// Why the last try failed.
    trouble: String,
    /// How many messages the next batch may have: one after a failure, so that one refused message does not have the
    /// others published again and again.
    batch_size: usize,
}

/// Messages that are published together. No two share a stripe: if the broker refused the first and took the second,
/// the second would be past the first.
#[derive(Debug, Default)]
struct Batch {
    messages: Vec<Outgoing>,
    stripes: Vec<u16>,
    /// How many bytes of the spool it takes, with what is damaged.
    bytes: usize,
    /// How many records could not be read.
    lost: u64,
}

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    Published,
    Failed,
    /// It failed, and it is time to end.
    Ends,
}

impl Drain {
    pub(crate) fn new(spool: Spool, broker: Arc<dyn Broker>) -> Self {
        Self {
            spool,
            broker,
            bytes: Vec::new(),
            done_bytes: 0,
            segment: 0,
            from: 0,
            backoff: RetryPolicy::RECONNECT.start(),
            trouble: String::new(),
            batch_size: LARGEST_BATCH,
        }
    }

    /// Publishes until `stop`; then on until the spool is empty or the broker refuses.
    pub(crate) async fn run(mut self, stop: Shutdown) {
        while self.done_bytes < self.bytes.len() || self.read(&stop).await {
            let batch = self.next_batch();
            match self.publish(&batch, &stop).await {
                Tried::Published if self.forget(batch).await => {}
                Tried::Failed => {}
                Tried::Published | Tried::Ends => return,
            }
        }
    }

    /// Reads what comes next, once there is something. `false` when it is time to end.
    async fn read(&mut self, stop: &Shutdown) -> bool {
        let mut failures = 0;
        loop {
            let Some(stretch) = self.spool.backlog.next() else {
                tokio::select! {
                    biased;
                    () = self.spool.backlog.grown.notified() => {}
                    () = stop.started() => if self.spool.backlog.next().is_none() {
                        return false;
                    },
                }
                continue;
            };
            let path = segment::path(&self.spool.dir, stretch.segment);
            let read = tokio::task::spawn_blocking(move || segment::load(&path, stretch.from, stretch.to)).await;
            match read.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked))) {
                Ok(bytes) if !bytes.is_empty() => {
                    (self.bytes, self.done_bytes) = (bytes, 0);
                    (self.segment, self.from) = (stretch.segment, stretch.from);
                    return true;
                }
                Ok(_) => failures = READS,
                Err(error) => {
                    warn!(%error, "cannot read the spool");
                    failures += 1;
                    tokio::time::sleep(self.backoff.next_delay(None)).await;
                }
            }
            if failures >= READS {
                warn!(segment = stretch.segment, "a segment of the spool cannot be read and is laid aside");
                metrics::counter!("switchboard_spool_dropped_total").increment(1);
                if !self.tell(|done| Command::LayAside(stretch.segment, done)).await {
                    return false;
                }
                failures = 0;
            }
        }
    }

    fn next_batch(&self) -> Batch {
        let mut batch = Batch::default();
        let mut oldest_ms = None;
        while batch.messages.len() < self.batch_size {
            match record::read(self.bytes.get(self.done_bytes + batch.bytes..).unwrap_or_default()) {
                Some(Read::Whole(record, length)) => {
                    if batch.stripes.contains(&record.stripe) {
                        break;
                    }
                    oldest_ms.get_or_insert(record.appended_ms);
                    batch.stripes.push(record.stripe);
                    batch.messages.push(outgoing(record));
                    batch.bytes += length;
                }
                Some(Read::Damaged { bytes, records }) => {
                    batch.lost += records;
                    batch.bytes += bytes;
                }
                None => break,
            }
        }
        if let Some(oldest_ms) = oldest_ms {
            self.spool.backlog.set_oldest(oldest_ms);
        }
        self.spool.measure();
        batch
    }

    async fn publish(&mut self, batch: &Batch, stop: &Shutdown) -> Tried {
        let began = Instant::now();
        let published = timeout(PUBLISH_TIMEOUT, self.broker.publish(&batch.messages)).await;
        let failure = match published {
            Ok(Ok(())) => {
                self.spool.broker_took(began.elapsed(), true);
                self.batch_size = (batch.messages.len() * 2).clamp(self.batch_size, LARGEST_BATCH);
                self.backoff.reset();
                self.trouble.clear();
                return Tried::Published;
            }
            Ok(Err(failure)) => failure,
            Err(_) => Failure::unknown("the broker did not confirm in time"),
        };
        self.spool.broker_took(began.elapsed(), false);
        self.batch_size = 1;
        // Once for each reason, not for each try.
        let trouble = failure.to_string();
        if trouble != self.trouble {
            warn!("cannot drain the spool: {trouble}");
            self.trouble = trouble;
        }
        tokio::select! {
            () = stop.started() => Tried::Ends,
            () = tokio::time::sleep(self.backoff.next_delay(failure.retry_after)) => Tried::Failed,
        }
    }

    /// Takes `batch`, which is published, off the spool. `false` when there is no writer any more.
    async fn forget(&mut self, batch: Batch) -> bool {
        self.done_bytes += batch.bytes;
        let position = Position { segment: self.segment, offset: self.from + self.done_bytes as u64 };
        let messages = batch.stripes.len();
        if !self.tell(|done| Command::Drained(position, batch.stripes, done)).await {
            return false;
        }
        metrics::counter!("switchboard_spool_drained_total").increment(messages as u64);
        if batch.lost > 0 {
            warn!(records = batch.lost, "a damaged place of the spool was skipped");
            metrics::counter!("switchboard_spool_dropped_total").increment(batch.lost);
        }
        self.spool.measure();
        if self.spool.backlog.depth().bytes == 0 {
            info!("the spool is drained");
        }
        true
    }

    /// Gives the writer a command and waits until it is done. `false` when there is no writer any more.
    async fn tell(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) -> bool {
        let (done, is_done) = oneshot::channel();
        self.spool.commands.send(command(done)).await.is_ok() && is_done.await.is_ok()
    }
}

/// The message as it was when it was appended.
fn outgoing(record: Record) -> Outgoing {
    let destination = Destination::Work(record.stage);
    match Envelope::decode(&record.payload) {
        Ok(envelope) => Outgoing {
            destination,
            id: Some(envelope.id),
            key: Some(envelope.key()),
            trace: envelope.trace,
            payload: record.payload,
        },
        // Of a newer release: whoever takes it off the queue says so, and makes it a dead letter.
        Err(_) => Outgoing { destination, id: None, key: None, trace: String::new(), payload: record.payload },
    }
}
