//! A message as the run loop holds it: read once, with the deliveries that its decision settles.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::{Delivery, Reason, ReasonName};
use bytes::Bytes;
use message::clock::Timestamp;
use message::{ConversationKey, Envelope, IntegrationId};

/// The largest payload that is decoded, 1 MiB: ingress takes far smaller webhooks, and decoding takes several times the
/// memory.
const LARGEST_PAYLOAD_BYTES: usize = 1024 * 1024;

/// A lane's name: payloads that cannot be read have no conversation and share one lane.
pub(super) type LaneKey = Option<ConversationKey>;

/// A lane's group, which takes turns with other groups: the integration; `None` for payloads that cannot be read.
pub(super) type Group = Option<IntegrationId>;

/// A message, or several that were joined to be handled as one.
pub(super) struct Item {
    /// Never empty: the message's own delivery first, then those of the messages that joined it.
    pub(super) deliveries: Vec<Delivery>,
    /// The message, or why it becomes a dead letter without being handled.
    pub(super) message: Result<Envelope, Reason>,
    /// Since when each of its messages that can be read has waited: its acceptance, or its last replay.
    pub(super) since: Vec<Timestamp>,
    /// How long it has rested in this process in all.
    pub(super) rested: Duration,
    /// Whether it may have ended a process.
    pub(super) suspicion: Suspicion,
}

/// Whether a message is suspected of ending processes: see [`crate::poison`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// No suspicion: it is delivered for the first time, or was handled without harm.
    None,
    /// It was delivered before and not settled.
    Redelivered,
    /// It was handled before, and that process may have died of it.
    Tried,
}

/// The size of held messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// How many deliveries.
    pub(super) messages: usize,
    /// How many bytes of payload.
    pub(super) bytes: usize,
}

impl Item {
    pub(super) fn read(delivery: Delivery) -> Self {
        let size_bytes = delivery.payload.len();
        let message = if size_bytes > LARGEST_PAYLOAD_BYTES {
            let detail = format!("{size_bytes} bytes; at most {LARGEST_PAYLOAD_BYTES} are read");
            Err(Reason::new(ReasonName::Oversized, detail))
        } else {
            Envelope::decode(&delivery.payload)
                .map_err(|unreadable| Reason::new(ReasonName::Unreadable, unreadable.to_string()))
        };
        let suspicion = if delivery.redeliveries > 0 { Suspicion::Redelivered } else { Suspicion::None };
        let since = message.iter().map(Envelope::age_counts_from).collect();
        Self { deliveries: vec![delivery], message, since, rested: Duration::ZERO, suspicion }
    }

    pub(super) fn lane(&self) -> LaneKey {
        self.message.as_ref().ok().map(Envelope::key)
    }

    pub(super) fn group(&self) -> Group {
        self.message.as_ref().ok().map(|envelope| envelope.integration.clone())
    }

    pub(super) fn payload(&self) -> Bytes {
        self.deliveries.first().map(|delivery| delivery.payload.clone()).unwrap_or_default()
    }

    pub(super) fn load(&self) -> Load {
        let bytes = self.deliveries.iter().map(|delivery| delivery.payload.len()).sum();
        Load { messages: self.deliveries.len(), bytes }
    }

    /// Joins `burst` into one item: the first message with those that join it. Deliveries that a lost connection took
    /// back are left out: the broker redelivers them, here or to another process, which may be handling them already.
    /// `None` if nothing is left.
    pub(super) fn joined(burst: Vec<Self>) -> Option<Self> {
        let mut joined: Option<Self> = None;
        for mut item in burst {
            item.deliveries.retain(Delivery::is_ours);
            if item.deliveries.is_empty() {
                continue;
            }
            match (&mut joined, item.message) {
                (Some(Self { deliveries, message: Ok(first), since, .. }), Ok(envelope)) => {
                    first.join(envelope);
                    since.append(&mut item.since);
                    deliveries.append(&mut item.deliveries);
                }
                (_, message) => joined = Some(Self { message, ..item }),
            }
        }
        joined
    }
}

impl Load {
    pub(super) fn of(items: &[Item]) -> Self {
        items.iter().map(Item::load).fold(Self::default(), Self::plus)
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { messages: self.messages + other.messages, bytes: self.bytes + other.bytes }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        let messages = self.messages.saturating_sub(other.messages);
        Self { messages, bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

/// The times since which the held messages have waited, oldest first, and how many messages have waited since each.
#[derive(Debug, Default)]
pub(super) struct Ages(BTreeMap<Timestamp, usize>);

impl Ages {
    pub(super) fn add(&mut self, since: &[Timestamp]) {
        for since in since {
            *self.0.entry(*since).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, since: &[Timestamp]) {
        for since in since {
            let left = self.0.get_mut(since).map(|count| {
                *count -= 1;
                *count
            });
            if left == Some(0) {
                self.0.remove(since);
            }
        }
    }

    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.0.keys().next().copied()
    }
}
