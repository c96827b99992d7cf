//! The broker port: durable queues between the services, with an adapter for RabbitMQ here and an embedded one in the
//! crate `embedded`.
//!
//! An adapter only publishes, hands out deliveries and settles them. What a delivery *means* is decided in the crate
//! `work`, whose loop is the only place that settles.

mod reason;
mod topology;

pub mod dead_letters;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use message::failure::Failure;
use message::{ConversationKey, Envelope, MessageId};

pub use reason::Reason;
pub use topology::{DEFAULT_PARTITIONS, DELAY_STEPS, MAX_LENGTH, Stage, Topology, delay_step};

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To the workers of a stage, in the conversation's partition.
    Work(Stage),
    /// To the workers of a stage, at the partition's end, once this long has passed. RabbitMQ has few delays and takes the
    /// longest that is [not longer](delay_step): who needs the rest parks again.
    Delayed(Stage, Duration),
    /// To the dead letters of a stage.
    Dead(Stage, Reason),
}

/// A message to publish.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where it goes.
    pub destination: Destination,
    /// Its id; publishing it again is harmless because whoever receives it asks a ledger.
    pub id: Option<MessageId>,
    /// The conversation whose order it belongs to; `None` for payloads nobody could read.
    pub key: Option<ConversationKey>,
    /// W3C `traceparent`, for the message's headers.
    pub trace: String,
    /// The encoded envelope.
    pub payload: Bytes,
}

impl Outgoing {
    /// `envelope` on its way to `destination`.
    #[must_use]
    pub fn new(destination: Destination, envelope: &Envelope) -> Self {
        Self {
            destination,
            id: Some(envelope.id),
            key: Some(envelope.key()),
            trace: envelope.trace.clone(),
            payload: envelope.encode().into(),
        }
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("destination", &self.destination).field("id", &self.id).finish_non_exhaustive()
    }
}

/// A message handed out, to be settled through [`Delivery::settle`] or given back when its subscription closes.
pub struct Delivery {
    /// The payload as it was published.
    pub payload: Bytes,
    /// How often it was handed out before, as far as the broker knows.
    pub redeliveries: u32,
    /// Takes it off the queue.
    pub settler: Box<dyn Settler>,
}

impl Delivery {
    /// Whether it is still ours: `false` once the broker has taken it back, as far as is known here.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.settler.is_ours()
    }

    /// Publishes `effects`, waits until they are durable, then takes this delivery off its queue.
    /// In the embedded adapter both are one transaction.
    ///
    /// A delivery that the broker meanwhile took back (a lost connection) is handed out again: not an error.
    ///
    /// # Errors
    /// The failure of publishing; the delivery is then still ours and may be settled again.
    pub async fn settle(&self, effects: &[Outgoing]) -> Result<(), Failure> {
        self.settler.settle(effects).await
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("redeliveries", &self.redeliveries).finish_non_exhaustive()
    }
}

/// The adapter's half of [`Delivery::settle`].
#[async_trait]
pub trait Settler: Send + Sync {
    /// See [`Delivery::is_ours`]. Where nothing can be taken back it always is.
    fn is_ours(&self) -> bool {
        true
    }

    /// See [`Delivery::settle`].
    async fn settle(&self, effects: &[Outgoing]) -> Result<(), Failure>;
}

/// A stream of deliveries that heals itself: it outlives lost connections, restarted brokers and deleted consumers.
#[async_trait]
pub trait Subscription: Send {
    /// The next delivery; pending while there is none. Safe to cancel.
    async fn next(&mut self) -> Delivery;

    /// Stops taking and gives every unsettled delivery back to the front of its queue, in order.
    async fn close(self: Box<Self>);
}

/// Durable queues.
#[async_trait]
pub trait Broker: Send + Sync + fmt::Debug {
    /// Publishes `messages` in order and returns once every one of them is durable and routed.
    ///
    /// # Errors
    /// Each message may or may not have been taken; publishing all of them again is harmless.
    async fn publish(&self, messages: &[Outgoing]) -> Result<(), Failure>;

    /// Subscribes to a stage. Of several subscribers to one partition only one is handed deliveries at a time.
    /// At most `prefetch` (at least 1) unsettled deliveries are held per partition.
    /// Returns at once, also while the broker is away; deliveries come when it is back.
    fn subscribe(&self, stage: Stage, prefetch: u16) -> Box<dyn Subscription>;

    /// How many queues `stage` has, each in an order of its own.
    fn partitions(&self, _stage: Stage) -> u16 {
        1
    }

    /// How the partitions of `stage` stand that this process subscribed to; `None` where it did not, or they cannot be
    /// sick one by one.
    fn standing(&self, _stage: Stage) -> Option<Standing> {
        None
    }

    /// How much lies where.
    ///
    /// # Errors
    /// When the broker cannot be asked.
    async fn depths(&self) -> Result<Depths, Failure>;

    /// Makes one real publish-and-confirm round trip.
    ///
    /// # Errors
    /// When a publish would fail now.
    async fn check(&self) -> Result<(), Failure>;
}

/// How the partitions of a stage stand, seen from a process that consumes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// How many there are.
    pub all: usize,
    /// How many are not consumed yet, with nothing that speaks against it.
    pub waiting: usize,
    /// The queues that are sick, each with what is wrong.
    pub sick: Vec<String>,
}

/// `7 of 8 partitions: sb.inbound.3 has no leader that answers`; three sick ones are named at most.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { all, waiting, sick } = self;
        write!(f, "{} of {all} partitions", all.saturating_sub(waiting + sick.len()))?;
        for (number, queue) in sick.iter().take(3).enumerate() {
            write!(f, "{}{queue}", if number == 0 { ": " } else { ", " })?;
        }
        Ok(())
    }
}

/// How many messages lie in the queues of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depths {
    /// Waiting for or held by a worker; where a broker cannot count held ones, only the waiting ones.
    pub inbound: u64,
    /// Waiting for or held by a sender, likewise.
    pub outbound: u64,
    /// Receipts, likewise.
    pub receipts: u64,
    /// Parked for a later attempt.
    pub delayed: u64,
    /// Dead letters.
    pub dead: u64,
}
