//! Makes a message durable: at the broker, or on disk while the broker cannot take it.
//!
//! Messages of one stripe, and so of one conversation, go through here one at a time: each is confirmed, on disk or
//! refused before the next one chooses its way. So none can be published while one before it is on its way to the spool.

use std::sync::Arc;
use std::time::Duration;

use common::broker::{Broker, Outgoing};
use common::failure::Failure;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::spool::{STRIPES, Spool, stripe};

/// How long a confirm may take before the broker counts as too slow. Twilio waits 15 s in all.
pub(crate) const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a message waits for those before it.
const TURN_TIMEOUT: Duration = Duration::from_secs(7);

/// Where messages become durable.
#[derive(Debug)]
pub(crate) struct Durable {
    broker: Arc<dyn Broker>,
    spool: Option<Spool>,
    turns: Vec<Mutex<()>>,
}

impl Durable {
    /// At `broker`, else in `spool` if there is one.
    pub(crate) fn new(broker: Arc<dyn Broker>, spool: Option<Spool>) -> Self {
        Self { broker, spool, turns: (0..STRIPES).map(|_| Mutex::default()).collect() }
    }

    /// Returns once `message` is durable, behind every message of its conversation that came before.
    ///
    /// # Errors
    /// When neither the broker nor the spool took it in time. It may be there all the same.
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
        let began = Instant::now();
        let Err(failure) = self.publish(message.clone()).await else { return Ok(()) };
        if spool.is_empty() {
            warn!(%failure, "the broker did not take a message: it goes to the spool");
        } else {
            debug!(%failure, "the broker did not take a message: it goes to the spool");
        }
        spool.broker_took(began.elapsed(), false);
        spool.append(&message).await
    }

    async fn publish(&self, message: Outgoing) -> Result<(), Failure> {
        let published = timeout(CONFIRM_TIMEOUT, self.broker.publish(&[message])).await;
        published.unwrap_or_else(|_| Err(Failure::unknown("the broker confirms too slowly")))
    }
}
