//! A message as the run loop holds it: read once, with the deliveries that its decision settles.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::{Delivery, Reason};
use bytes::Bytes;
use message::clock::Timestamp;
use message::{ConversationKey, Envelope, IntegrationId};

/// No payload is read that is larger: ingress takes far smaller webhooks, and reading takes several times the memory.
const LARGEST_PAYLOAD_BYTES: usize = 1024 * 1024;

/// A lane's name: payloads that cannot be read have no conversation and share one lane.
pub(super) type LaneKey = Option<ConversationKey>;

/// What takes turns with others of its kind.
pub(super) type Group = Option<IntegrationId>;

/// A message, or several that were joined to be handled as one.
pub(super) struct Item {
    /// Never empty; the first is the message's own, the others are of those that joined it.
    pub(super) deliveries: Vec<Delivery>,
    /// The message, or why it is not even looked at.
    pub(super) message: Result<Envelope, Reason>,
    /// Since when each of its messages that can be read has waited: its acceptance, or its last replay.
    pub(super) since: Vec<Timestamp>,
    /// How long it has rested here in all.
    pub(super) rested: Duration,
    /// Whether it may be what ended a process.
    pub(super) suspicion: Suspicion,
}

/// What speaks against a message: see [`crate::poison`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// Nothing: nobody held it before, or it was handled without harm.
    None,
    /// Somebody held it before and did not settle it.
    Redelivered,
    /// Somebody handled it before and may have died of it.
    Tried,
}

/// How much is held.
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
            Err(Reason::new("oversized", detail))
        } else {
            Envelope::decode(&delivery.payload).map_err(|unreadable| Reason::new("unreadable", unreadable.to_string()))
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

    /// `burst` as one: the first with what joins it. What a lost connection took back is left out, because it comes
    /// again, here or to somebody who may be at work on it already; `None` if nothing is left.
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

/// Since when the messages that are held have waited, oldest first, and how many since then.
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
