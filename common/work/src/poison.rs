//! Finds the message that a process dies of. A panic is caught, but a stack overflow, an abort or the kernel's
//! out-of-memory killer ends the whole process, and whoever is handed the message next dies too.
//!
//! A message that is handed out again is a *suspect*: before it is handled, that is written down, and after it was handled
//! that is struck out. Almost all suspects are innocent (they were held when a process ended or a connection was lost)
//! and are handled side by side. One with [`DEATHS_IN_COMPANY`] is handled while no other such one is in the process, so
//! the next deaths fall on the right one. With [`MOST_DEATHS`] it is a dead letter. Who kills our processes again and
//! again thus condemns nothing, unless it is the same message that is alone each time.
//!
//! Whoever stops in good order strikes out what it gives back. A message that is handed out for the first time costs
//! nothing here.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::{Reason, Stage};
use message::Envelope;
use message::failure::Failure;
use message::shutdown::Shutdown;
use store::{Expect, Halt, Key, PatientStore, Record, Store, Write, Written};
use tokio::sync::MutexGuard;
use tokio::time::Instant;
use tracing::{error, warn};

use super::item::{Item, Suspicion};

/// With so many deaths written down a message is handled alone. Fewer may well be somebody else's: handling all of those
/// one after the other would make a queue of what was merely held when a process was killed.
const DEATHS_IN_COMPANY: u32 = 2;
/// A message with so many deaths written down is a dead letter: all but the first ones were its own, alone. The very
/// first, when it was no suspect yet, is not written down.
const MOST_DEATHS: u32 = DEATHS_IN_COMPANY + 3;
/// Before its first trial alone a process has lived this long, before the second twice as long, and so on. A message that
/// ends processes ends them whenever it is handled; whoever kills one every few seconds hardly meets it then.
const CALM: Duration = Duration::from_secs(2);
/// How long it is remembered that a message was being handled: longer than a process stays down.
const TTL: Duration = Duration::from_secs(72 * 60 * 60);
/// How long a suspect waits for another one's trial before it asks again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long striking out what was abandoned may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Held by the one suspect of this process, of whatever stage, that is handled although it was handled before.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The suspects of one stage.
#[derive(Debug)]
pub(super) struct Suspects {
    stage: Stage,
    store: Option<(Arc<dyn Store>, PatientStore)>,
    began_at: Instant,
    /// What is written down and not struck out yet.
    open: Mutex<HashSet<Key>>,
}

/// A suspect that may be handled now, until [`Suspects::absolve`].
#[derive(Debug)]
pub(super) struct Trial {
    key: Key,
    alone: Option<MutexGuard<'static, ()>>,
}

/// What to do with a message.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Handle it.
    Handle(Option<Trial>),
    /// Another one has to be handled first.
    Later(Duration),
    /// Set it aside.
    Crashing(Reason, Trial),
    /// We were asked to stop.
    GiveBack,
}

impl Suspects {
    /// Without a store nothing is written down, and nobody is a suspect.
    pub(super) fn new(stage: Stage, store: Option<Arc<dyn Store>>, shutdown: &Shutdown) -> Self {
        let store = store.map(|store| (store.clone(), PatientStore::new(store, shutdown.clone())));
        Self { stage, store, began_at: Instant::now(), open: Mutex::default() }
    }

    /// Asks whether `item` may be handled; if it is a suspect, that is written down first.
    pub(super) async fn question(&self, item: &mut Item) -> Verdict {
        let (Some((_, store)), Ok(envelope)) = (&self.store, &item.message) else { return Verdict::Handle(None) };
        if item.suspicion == Suspicion::None {
            return Verdict::Handle(None);
        }
        let key = self.key(envelope);
        match self.try_suspect(store, key, &mut item.suspicion).await {
            Ok(verdict) => verdict,
            Err(Halt::Stopping) => Verdict::GiveBack,
            Err(Halt::Impossible(failure)) => {
                error!(message.id = %envelope.id, %failure, "cannot write down that a suspect is handled");
                Verdict::Handle(None)
            }
        }
    }

    async fn try_suspect(&self, store: &PatientStore, key: Key, suspicion: &mut Suspicion) -> Result<Verdict, Halt> {
        if *suspicion == Suspicion::Redelivered {
            let first = Write::put(key.clone(), Expect::Absent, "1", TTL);
            // Unsure is our own note whose answer was lost, as far as anybody knows: no death is counted for that.
            if store.commit(&[first]).await? != Written::Conflict {
                self.count("redelivered");
                return Ok(Verdict::Handle(Some(self.begin(key, None))));
            }
            *suspicion = Suspicion::Tried;
        }
        let [record] = store.get([key.clone()]).await?;
        let deaths = record.as_ref().map_or(0, deaths);
        let alone = if deaths < DEATHS_IN_COMPANY { None } else { Some(ALONE.try_lock()) };
        let Ok(alone) = alone.transpose() else { return Ok(Verdict::Later(LOOK_AGAIN)) };
        let calm = CALM * (deaths + 1).saturating_sub(DEATHS_IN_COMPANY);
        if deaths >= MOST_DEATHS {
            self.count("crashing");
            let detail = format!("a process ended {} times while it handled this message", deaths + 1);
            return Ok(Verdict::Crashing(Reason::new("crashing", detail), self.begin(key, alone)));
        }
        if self.began_at.elapsed() < calm {
            return Ok(Verdict::Later(LOOK_AGAIN));
        }
        let expect = Expect::unchanged(record.as_ref());
        let next = Write::put(key.clone(), expect, (deaths + 1).to_string(), TTL);
        if store.commit(&[next]).await? == Written::Conflict {
            return Ok(Verdict::Later(LOOK_AGAIN));
        }
        self.count("tried");
        if alone.is_some() {
            warn!(stage = self.stage.as_str(), deaths, "a message that processes ended with is handled alone");
        }
        Ok(Verdict::Handle(Some(self.begin(key, alone))))
    }

    /// Strikes out a suspect that was handled, or is given back in good order.
    pub(super) async fn absolve(&self, trial: Trial) {
        let Some((_, store)) = &self.store else { return };
        if store.commit(&[Write::delete(trial.key.clone(), Expect::Anything)]).await.is_ok() {
            self.opened(|open| open.remove(&trial.key));
        }
        drop(trial.alone);
    }

    /// Strikes out what was abandoned at the end of the grace period: we stop it, it does not stop us.
    pub(super) async fn absolve_abandoned(&self) {
        let Some((store, _)) = &self.store else { return };
        let abandoned = self.opened(std::mem::take);
        let strike_out = async {
            for key in abandoned {
                let _struck_out = store.commit(&[Write::delete(key, Expect::Anything)]).await?;
            }
            Ok::<_, Failure>(())
        };
        if !matches!(tokio::time::timeout(LAST_WORDS, strike_out).await, Ok(Ok(()))) {
            warn!(stage = self.stage.as_str(), "some messages that are given back stay suspects");
        }
    }

    fn begin(&self, key: Key, alone: Option<MutexGuard<'static, ()>>) -> Trial {
        self.opened(|open| open.insert(key.clone()));
        Trial { key, alone }
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

/// What cannot be read counts as one.
fn deaths(record: &Record) -> u32 {
    std::str::from_utf8(&record.value).ok().and_then(|value| value.parse().ok()).unwrap_or(1)
}
