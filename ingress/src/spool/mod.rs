//! The spool: where messages wait on disk while the broker cannot take them.
//!
//! Messages of one conversation never pass each other. Conversations fall into stripes, and a message goes past the
//! spool only while none of its stripe is in it; see [`crate::durable`]. One thread writes ([`writer`]), one task
//! publishes what was written ([`drain`]).

mod backlog;
mod done;
mod drain;
mod page;
mod position;
mod record;
mod segment;
mod slot;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use broker::{Destination, Outgoing};
use message::ConversationKey;
use message::clock::Clock;
use message::failpoint::{self, Step};
use message::failure::Failure;
use tokio::sync::{mpsc, oneshot};
use work::spool_status::Intake;

pub(crate) use drain::Drain;

use backlog::Backlog;
use record::Record;
use slot::Slot;
use writer::{Append, Command, Writer};

/// How many stripes the conversations fall into: few enough that their counts take a few KiB, and enough that two
/// conversations seldom share one. Records hold their stripe: with another number here, messages that an older release
/// spooled wait in other stripes.
pub(crate) const STRIPES: u16 = 4096;
/// How many commands the writer's queue holds; a request beyond that waits for a place in it.
const QUEUE: usize = 1024;
/// How long an append may take, 5 s: a provider does not wait much longer.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the slots of dead processes and a failing disk are checked, and gauges set that change by themselves:
/// every 5 s.
const TEND_INTERVAL: Duration = Duration::from_secs(5);

/// The stripe of a conversation. An unreadable message has no conversation and no order to keep: its stripe is 0.
pub(crate) fn stripe(key: Option<ConversationKey>) -> u16 {
    key.map_or(0, |key| key.partition(STRIPES))
}

/// This process's part of the spool. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    backlog: Arc<Backlog>,
    commands: mpsc::Sender<Command>,
    dir: Arc<PathBuf>,
    clock: Clock,
}

/// The thread that writes a spool.
#[derive(Debug)]
pub(crate) struct WriterThread(JoinHandle<()>);

impl Spool {
    /// Opens the spool in `data_dir` with at most `limit_bytes` in it, and takes over what dead processes left there.
    /// Reads through all of that, so it may take seconds. The spool's state is reported to `intake`.
    ///
    /// # Errors
    /// When the directory cannot be written: an operator has to mend that.
    pub(crate) fn open(
        data_dir: &Path,
        limit_bytes: u64,
        intake: Arc<Intake>,
        clock: Clock,
    ) -> Result<(Self, WriterThread), Failure> {
        let cannot = |error: io::Error| {
            let dir = data_dir.display();
            Failure::misconfigured(format!(
                "the spool in data_dir {dir} cannot be used: {error}; make it writable, or set ingress.spool_limit to 0"
            ))
        };
        let slot = Slot::claim(&directory(data_dir)).map_err(cannot)?;
        let dir = Arc::new(slot.dir.clone());
        let backlog = Arc::new(Backlog::new(intake));
        let writer = Writer::open(slot, Arc::clone(&backlog), limit_bytes).map_err(cannot)?;
        let (commands, received) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("spool".to_owned()).spawn(move || writer.run(received));
        let spool = Self { backlog, commands, dir, clock };
        spool.measure();
        Ok((spool, WriterThread(thread.map_err(cannot)?)))
    }

    /// Whether a message of `stripe` has to go into the spool, because one before it may be there, or because the
    /// broker is known to be away.
    pub(crate) fn is_in_the_way_of(&self, stripe: u16) -> bool {
        self.backlog.is_in_the_way_of(stripe)
    }

    /// Appends `message` and returns once it is on disk. From the moment of the call its stripe waits behind it, also
    /// if this future is dropped.
    ///
    /// # Errors
    /// When the spool is full, cannot be written or takes too long. In the last case the message may still reach the
    /// disk.
    pub(crate) async fn append(&self, message: &Outgoing) -> Result<(), Failure> {
        let Destination::Work(stage) = message.destination else {
            return Err(Failure::permanent("only work can be spooled"));
        };
        let (stripe, appended_ms) = (stripe(message.key), self.clock.now().as_millisecond());
        let record = Record { stage, stripe, appended_ms, payload: message.payload.clone() };
        let bytes = record::encode(&record).ok_or_else(|| Failure::permanent("too large for the spool"))?;
        if failpoint::skips_the_spool() {
            return Ok(());
        }
        let ended = || Failure::transient("the spool is closed");
        let (done, answer) = oneshot::channel();
        let appended = async {
            let place = self.commands.reserve().await.map_err(|_| ended())?;
            self.backlog.announce(stripe);
            place.send(Command::Append(Append { bytes, stripe, appended_ms, done }));
            answer.await.unwrap_or_else(|_| Err(ended()))
        };
        let in_time = tokio::time::timeout(APPEND_TIMEOUT, appended).await;
        in_time.unwrap_or_else(|_| Err(Failure::transient("the spool's disk takes too long")))?;
        failpoint::reach(Step::Spooled);
        Ok(())
    }

    /// Gives the writer a command and waits until it is done. `false` when there is no writer any more.
    async fn tell(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) -> bool {
        let (done, is_done) = oneshot::channel();
        self.commands.send(command(done)).await.is_ok() && is_done.await.is_ok()
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.backlog.depth().bytes == 0
    }

    /// Whether the broker took nothing at all when it was last asked. While that is so and the spool is in use, every
    /// message goes to the spool at once.
    pub(crate) fn is_broker_away(&self) -> bool {
        self.backlog.is_broker_away()
    }

    /// See [`Spool::is_broker_away`].
    pub(crate) fn set_broker_away(&self, is_away: bool) {
        self.backlog.set_broker_away(is_away);
    }

    /// Maintains the spool as long as it is polled. Returns only when the writer has ended, which means that it
    /// panicked.
    pub(crate) async fn tend(&self) {
        let mut interval = tokio::time::interval(TEND_INTERVAL);
        loop {
            tokio::select! {
                () = self.commands.closed() => return,
                _ = interval.tick() => {}
            }
            drop(self.commands.try_send(Command::Tend));
            self.measure();
        }
    }

    /// Sets the gauges.
    fn measure(&self) {
        let depth = self.backlog.depth();
        let age_ms = depth.oldest_ms.map_or(0, |oldest_ms| self.clock.now().as_millisecond() - oldest_ms);
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let (messages, bytes, seconds) = (depth.messages as f64, depth.bytes as f64, age_ms.max(0) as f64 / 1000.0);
        metrics::gauge!("switchboard_spool_messages").set(messages);
        metrics::gauge!("switchboard_spool_bytes").set(bytes);
        metrics::gauge!("switchboard_spool_oldest_seconds").set(seconds);
    }

    /// Ends the writer and waits until its slot is free for the next process. What is in the spool stays there.
    pub(crate) async fn close(self, thread: WriterThread) {
        drop(self.commands.send(Command::Close).await);
        drop(tokio::task::spawn_blocking(move || thread.0.join()).await);
    }
}

/// Whether there is anything of a spool in `data_dir`.
pub(crate) fn exists(data_dir: &Path) -> bool {
    directory(data_dir).is_dir()
}

fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("spool")
}
