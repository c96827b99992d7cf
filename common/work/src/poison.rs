//! Poison-message guard: dead-letters a message that keeps killing the process. A panic is caught, but a stack
//! overflow, an abort or the kernel's out-of-memory killer ends the whole process, and the process that gets the
//! message next dies too.
//!
//! A redelivered message is a *suspect*: a record in the store is written before it is handled and deleted afterwards.
//! Almost all suspects are innocent (they were held when a process ended or a connection was lost) and are handled side
//! by side. A suspect with [`DEATHS_IN_COMPANY`] is handled while no other such suspect is handled in the process, so
//! the next deaths are counted for the right one. With [`MOST_DEATHS`] it becomes a dead letter. So an operator or a
//! supervisor that kills our processes again and again condemns no message, unless the same message is alone each time.
//!
//! A process that stops in good order deletes the records of the messages that it gives back. A message that is
//! delivered for the first time costs nothing here.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::{Reason, ReasonName, Stage};
use message::Envelope;
use message::failure::Failure;
use message::shutdown::Shutdown;
use store::{CommitOutcome, Expect, Interrupted, Key, Record, RetryingStore, Store, Write};
use tokio::sync::MutexGuard;
use tokio::time::Instant;
use tracing::{error, warn};

use super::item::{Item, Suspicion};

/// From this many recorded deaths on, a message is handled alone. Fewer deaths may well be due to another message:
/// handling all of those alone would make a queue of everything that was merely held when a process was killed.
const DEATHS_IN_COMPANY: u32 = 2;
/// From this many recorded deaths on, a message is a dead letter: in all but the first [`DEATHS_IN_COMPANY`] it was
/// alone. The very first death, when it was no suspect yet, is not recorded.
const MOST_DEATHS: u32 = DEATHS_IN_COMPANY + 3;
/// How long a process has run before it starts a suspect's first probation alone, 2 s; before the second twice as long,
/// and so on. A poison message ends a process whenever it is handled; an operator or a supervisor that kills one every
/// few seconds then hardly ever hits a probation.
const MIN_UPTIME: Duration = Duration::from_secs(2);
/// How long the record of a suspect is kept, 72 h: longer than a process stays down.
const TTL: Duration = Duration::from_secs(72 * 60 * 60);
/// How long a suspect waits for another suspect's probation before it is checked again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long deleting the records of abandoned messages may take at shutdown.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(3);

/// Held by the one suspect of this process, of any stage, that is on probation alone.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The suspects of one stage.
#[derive(Debug)]
pub(super) struct Suspects {
    stage: Stage,
    store: Option<(Arc<dyn Store>, RetryingStore)>,
    began_at: Instant,
    /// The records that are written and not deleted yet.
    open: Mutex<HashSet<Key>>,
}

/// A suspect that may be handled now, until [`Suspects::clear`].
#[derive(Debug)]
pub(super) struct Probation {
    key: Key,
    alone: Option<MutexGuard<'static, ()>>,
}

/// What to do with a message.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Handle it.
    Handle(Option<Probation>),
    /// Check again after this long: another suspect is on probation alone, or the process has not run long enough.
    Later(Duration),
    /// Make it a dead letter.
    ProcessKiller(Reason, Probation),
    /// We were asked to stop.
    GiveBack,
}

impl Suspects {
    /// Without a store nothing is recorded, and no message is a suspect.
    pub(super) fn new(stage: Stage, store: Option<Arc<dyn Store>>, shutdown: &Shutdown) -> Self {
        let store = store.map(|store| (store.clone(), RetryingStore::new(store, shutdown.clone())));
        Self { stage, store, began_at: Instant::now(), open: Mutex::default() }
    }

    /// Checks whether `item` may be handled; if it is a suspect, its handling is recorded first.
    pub(super) async fn check(&self, item: &mut Item) -> Verdict {
        let (Some((_, store)), Ok(envelope)) = (&self.store, &item.message) else { return Verdict::Handle(None) };
        if item.suspicion == Suspicion::None {
            return Verdict::Handle(None);
        }
        let key = self.key(envelope);
        match self.try_suspect(store, key, &mut item.suspicion).await {
            Ok(verdict) => verdict,
            Err(Interrupted::Stopping) => Verdict::GiveBack,
            Err(Interrupted::Impossible(failure)) => {
                error!(message.id = %envelope.id, %failure, "cannot write down that a suspect is handled");
                Verdict::Handle(None)
            }
        }
    }

    async fn try_suspect(
        &self,
        store: &RetryingStore,
        key: Key,
        suspicion: &mut Suspicion,
    ) -> Result<Verdict, Interrupted> {
        if *suspicion == Suspicion::Redelivered {
            let first = Write::put(key.clone(), Expect::Absent, "1", TTL);
            // An unsure commit is taken for our own record whose answer was lost: no death is counted for it.
            if store.commit(&[first]).await? != CommitOutcome::Conflict {
                self.count("redelivered");
                return Ok(Verdict::Handle(Some(self.begin(key, None))));
            }
            *suspicion = Suspicion::Tried;
        }
        let [record] = store.get([key.clone()]).await?;
        let deaths = record.as_ref().map_or(0, deaths);
        let alone = if deaths < DEATHS_IN_COMPANY { None } else { Some(ALONE.try_lock()) };
        let Ok(alone) = alone.transpose() else { return Ok(Verdict::Later(LOOK_AGAIN)) };
        let calm = MIN_UPTIME * (deaths + 1).saturating_sub(DEATHS_IN_COMPANY);
        if deaths >= MOST_DEATHS {
            self.count("process_killer");
            let detail = format!("a process ended {} times while it handled this message", deaths + 1);
            return Ok(Verdict::ProcessKiller(Reason::new(ReasonName::ProcessKiller, detail), self.begin(key, alone)));
        }
        if self.began_at.elapsed() < calm {
            return Ok(Verdict::Later(LOOK_AGAIN));
        }
        let expect = Expect::unchanged(record.as_ref());
        let next = Write::put(key.clone(), expect, (deaths + 1).to_string(), TTL);
        if store.commit(&[next]).await? == CommitOutcome::Conflict {
            return Ok(Verdict::Later(LOOK_AGAIN));
        }
        self.count("tried");
        if alone.is_some() {
            warn!(stage = self.stage.as_str(), deaths, "a message that processes ended with is handled alone");
        }
        Ok(Verdict::Handle(Some(self.begin(key, alone))))
    }

    /// Deletes the record of a suspect that was handled, or is given back in good order.
    pub(super) async fn clear(&self, probation: Probation) {
        let Some((_, store)) = &self.store else { return };
        if store.commit(&[Write::delete(probation.key.clone(), Expect::Anything)]).await.is_ok() {
            self.opened(|open| open.remove(&probation.key));
        }
        drop(probation.alone);
    }

    /// Deletes the records of messages that were abandoned at the end of the grace period: they did not end the
    /// process.
    pub(super) async fn clear_abandoned(&self) {
        let Some((store, _)) = &self.store else { return };
        let abandoned = self.opened(std::mem::take);
        let strike_out = async {
            for key in abandoned {
                let _struck_out = store.commit(&[Write::delete(key, Expect::Anything)]).await?;
            }
            Ok::<_, Failure>(())
        };
        if !matches!(tokio::time::timeout(CLEANUP_TIMEOUT, strike_out).await, Ok(Ok(()))) {
            warn!(stage = self.stage.as_str(), "some messages that are given back stay suspects");
        }
    }

    fn begin(&self, key: Key, alone: Option<MutexGuard<'static, ()>>) -> Probation {
        self.opened(|open| open.insert(key.clone()));
        Probation { key, alone }
    }

    fn key(&self, envelope: &Envelope) -> Key {
        Key::new(envelope.key().to_hex(), format!("trial/{}/{}", self.stage.as_str(), envelope.id))
    }

    fn opened<T>(&self, change: impl FnOnce(&mut HashSet<Key>) -> T) -> T {
        change(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, verdict: &'static str) {
        metrics::counter!("switchboard_suspects_total", "stage" => self.stage.as_str(), "verdict" => verdict)
            .increment(1);
    }
}

/// The recorded deaths; an unreadable record counts as one.
fn deaths(record: &Record) -> u32 {
    std::str::from_utf8(&record.value).ok().and_then(|value| value.parse().ok()).unwrap_or(1)
}
