//! Makes a message durable: at the broker, or on disk while the broker cannot take it.
//!
//! Messages of one stripe, and so of one conversation, go through here one at a time: each is confirmed, on disk or
//! refused before it is decided where the next one goes. So no message is published while one before it is on its way
//! to the spool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use broker::{Broker, Outgoing};
use message::failure::Failure;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::spool::{STRIPES, Spool, stripe};

/// How long a confirm may take before the broker counts as too slow. Twilio waits 15 s in all.
pub(crate) const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a message waits for those before it, 7 s.
const TURN_TIMEOUT: Duration = Duration::from_secs(7);

/// Where messages become durable.
#[derive(Debug)]
pub(crate) struct Durable {
    broker: Arc<dyn Broker>,
    spool: Option<Spool>,
    turns: Vec<Mutex<()>>,
    /// How many messages the broker has confirmed.
    confirmed: AtomicU64,
    /// Held while the broker is checked.
    asking: Mutex<()>,
}

impl Durable {
    /// Makes messages durable at `broker`, else in `spool` if there is one.
    pub(crate) fn new(broker: Arc<dyn Broker>, spool: Option<Spool>) -> Self {
        let turns = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { broker, spool, turns, confirmed: AtomicU64::new(0), asking: Mutex::default() }
    }

    /// Returns once `message` is durable, behind every message of its conversation that came before.
    ///
    /// # Errors
    /// When neither the broker nor the spool took it in time. The message may have been stored nevertheless.
    pub(crate) async fn keep(&self, message: Outgoing) -> Result<(), Failure> {
        let stripe = stripe(message.key);
        let _turn = match self.turns.get(usize::from(stripe)) {
            Some(turn) => Some(
                timeout(TURN_TIMEOUT, turn.lock())
                    .await
                    .map_err(|_| Failure::transient("the messages before it took too long"))?,
            ),
            None => None,
        };
        let Some(spool) = &self.spool else { return self.publish(message).await };
        if spool.is_in_the_way_of(stripe) {
            return spool.append(&message).await;
        }
        let confirmed_before = self.confirmed.load(Relaxed);
        let Err(failure) = self.publish(message.clone()).await else {
            self.confirmed.fetch_add(1, Relaxed);
            return Ok(());
        };
        if spool.is_empty() {
            warn!(%failure, "the broker did not take a message: it goes to the spool");
        } else {
            debug!(%failure, "the broker did not take a message: it goes to the spool");
        }
        let (kept, ()) = tokio::join!(spool.append(&message), self.ask_broker(spool, confirmed_before));
        kept
    }

    async fn publish(&self, message: Outgoing) -> Result<(), Failure> {
        let published = timeout(CONFIRM_TIMEOUT, self.broker.publish(&[message])).await;
        published.unwrap_or_else(|_| Err(Failure::unknown("the broker confirms too slowly")))
    }

    /// Finds out whether a broker that did not take a message takes no messages at all, so that the others need not
    /// wait in vain. The cause may also be a single sick queue. It is, if another message was confirmed since: then the
    /// count is above `confirmed_before`.
    async fn ask_broker(&self, spool: &Spool, confirmed_before: u64) {
        let Ok(_asking) = self.asking.try_lock() else { return };
        let took_none = || self.confirmed.load(Relaxed) == confirmed_before;
        if took_none() && !spool.is_broker_away() && !is_there(&self.broker).await && took_none() {
            spool.set_broker_away(true);
        }
    }
}

/// Whether `broker` takes a message in time.
pub(crate) async fn is_there(broker: &Arc<dyn Broker>) -> bool {
    matches!(timeout(CONFIRM_TIMEOUT, broker.check()).await, Ok(Ok(())))
}
