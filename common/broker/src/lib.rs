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

pub use reason::{Reason, ReasonName};
pub use topology::{DEFAULT_PARTITIONS, DELAY_STEPS, MAX_LENGTH, Stage, Topology, delay_step};

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To the workers of a stage, in the conversation's partition.
    Work(Stage),
    /// To the workers of a stage, at the partition's end, after this delay. RabbitMQ has a few fixed delays and uses
    /// the longest that is [not longer](delay_step): the handler parks the message again for the rest.
    Delayed(Stage, Duration),
    /// To the dead letters of a stage.
    Dead(Stage, Reason),
}

/// A message to publish.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where it goes.
    pub destination: Destination,
    /// Its id. Publishing it again is harmless, because the consumer checks a ledger.
    pub id: Option<MessageId>,
    /// The conversation within which it keeps its order; `None` for an unreadable payload.
    pub key: Option<ConversationKey>,
    /// W3C `traceparent`, for the message's headers.
    pub trace: String,
    /// The encoded envelope.
    pub payload: Bytes,
}

impl Outgoing {
    /// The message that carries `envelope` to `destination`.
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
    /// Whether this process still holds it: `false` once the broker has taken it back, as far as this process knows.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.settler.is_ours()
    }

    /// Publishes `effects`, waits until they are durable, then takes this delivery off its queue.
    /// In the embedded adapter both are one transaction.
    ///
    /// A delivery that the broker took back before (a lost connection) is handed out again. That is not an error.
    ///
    /// # Errors
    /// The failure of publishing. The delivery is then still held and may be settled again.
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
    /// See [`Delivery::is_ours`]. Always `true` for a broker that takes nothing back.
    fn is_ours(&self) -> bool {
        true
    }

    /// See [`Delivery::settle`].
    async fn settle(&self, effects: &[Outgoing]) -> Result<(), Failure>;
}

/// A stream of deliveries that recovers by itself: it survives lost connections, broker restarts and deleted consumers.
#[async_trait]
pub trait Subscription: Send {
    /// The next delivery; pending while there is none. Safe to cancel.
    async fn next(&mut self) -> Delivery;

    /// Stops consuming and gives every unsettled delivery back to the front of its queue, in order.
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

    /// How many partitions `stage` has. Each is a queue with an order of its own.
    fn partitions(&self, _stage: Stage) -> u16 {
        1
    }

    /// The state of the partitions of `stage` that this process consumes; `None` if it does not subscribe to the stage,
    /// or if the broker's partitions cannot be sick one by one.
    fn standing(&self, _stage: Stage) -> Option<Standing> {
        None
    }

    /// How many messages the queues of each kind hold.
    ///
    /// # Errors
    /// When the broker does not answer.
    async fn depths(&self) -> Result<Depths, Failure>;

    /// Makes one real publish-and-confirm round trip.
    ///
    /// # Errors
    /// When a publish would fail now.
    async fn check(&self) -> Result<(), Failure>;
}

/// The state of a stage's partitions, as seen by a process that consumes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// How many partitions the stage has.
    pub all: usize,
    /// How many are not consumed yet, without a known fault.
    pub waiting: usize,
    /// The queues that are sick, each with its fault.
    pub sick: Vec<String>,
}

/// For example `7 of 8 partitions: sb.inbound.3 has no leader that answers`. Names three sick queues at most.
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

/// How many messages the queues of each kind hold.
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
