//! The versioned JSON envelope: the only place where queue payloads are written and read.
//! A payload that cannot be read is an [`Unreadable`], never a panic, so that the run loop can dead-letter it.

use serde::{Deserialize, Serialize};

use super::{Address, Conversation, ConversationKey, IntegrationId, MessageId, MessageText, Replay};
use crate::clock::Timestamp;
use crate::failure::FailureKind;

/// The newest envelope schema; this release reads it and every one before it.
pub const SCHEMA: u16 = 1;

/// One message on its way, with everything that retries, dead letters and replays need to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The schema this envelope was written in.
    pub schema: u16,
    /// Names the message; equal causes give equal ids.
    pub id: MessageId,
    /// The integration it belongs to.
    pub integration: IntegrationId,
    /// The customer's number and ours.
    pub conversation: Conversation,
    /// When ingress accepted the text that caused it.
    pub accepted_at: Timestamp,
    /// What was tried and failed so far, oldest first.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// Its replays from the dead letters by an operator, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replays: Vec<Replay>,
    /// W3C `traceparent` of the webhook that caused it: <https://www.w3.org/TR/trace-context/>.
    pub trace: String,
    /// What it carries.
    pub body: Body,
}

/// What an envelope carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body {
    /// A text from the customer.
    Inbound(Inbound),
    /// A part of a reply to the customer.
    Part(Part),
    /// A delivery receipt: the provider's later report on a part.
    Receipt(Receipt),
    /// A request that the provider posted as a text and ingress could not read.
    Unread(Unread),
}

/// A text from the customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    /// The provider's name for it.
    pub provider_message_id: String,
    /// The words; may be empty when media came along.
    pub text: MessageText,
    /// Pictures and other media.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<Media>,
    /// Later texts of the same burst, which are answered together with this one, oldest first. Each keeps its id, so
    /// that the ledger can tell which of them were answered before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<Joined>,
}

/// An authenticated request that could not be read, kept for an operator to look at. Its conversation is unknown: both
/// its numbers are empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// Why it could not be read; names no value.
    pub why: String,
    /// Its method, `GET` or `POST`.
    pub method: String,
    /// The content type that it named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The query of a `GET`, else the body, without a secret; U+FFFD stands for bytes that are not UTF-8.
    pub content: MessageText,
}

/// A text that joined an earlier one of its burst.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The id it had as a message of its own.
    pub id: MessageId,
    /// Its failed attempts before it joined, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Its replays, by itself before it joined or with the text that it joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replays: Vec<Replay>,
    /// The text.
    pub inbound: Inbound,
}

/// The piece of a reply that one provider call sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The turn it answers.
    pub turn: MessageId,
    /// Its place among the turn's parts, from 0.
    pub index: u16,
    /// The words; may be empty when media goes along.
    pub text: MessageText,
    /// Public URLs of media to send along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<Media>,
}

/// A delivery receipt: the provider's later report on a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The provider's name for the message that it reports on.
    pub provider_message_id: String,
    /// Our part, when the callback URL named it.
    pub part: Option<MessageId>,
    /// What became of the message.
    pub state: ReceiptState,
    /// The provider's error code, if it failed.
    pub code: Option<String>,
}

/// What became of a message, in the order in which states may follow each other: a state never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptState {
    /// The provider queued it.
    Queued,
    /// The provider handed it to the carrier.
    Sent,
    /// The provider or carrier gave up.
    Failed,
    /// It reached the phone.
    Delivered,
    /// It was read.
    Read,
}

/// A picture or other medium of a message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// Where it can be fetched.
    pub url: String,
    /// Its MIME type, where known.
    pub content_type: Option<String>,
}

/// A failed call to a provider or an assistant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it failed.
    pub at: Timestamp,
    /// The kind of failure.
    pub kind: FailureKind,
    /// The other side's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// A few words, safe to show.
    pub what: String,
}

/// The payload is not an envelope that this release can read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not JSON, or not of the envelope's shape. The text names the place, never the content.
    #[error("not an envelope: {category:?} error at line {line} column {column}")]
    Shape {
        /// What was wrong: syntax, data, or end of input.
        category: serde_json::error::Category,
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// Written by a newer release.
    #[error("envelope schema {found} is newer than {SCHEMA}, the newest this release reads")]
    Newer {
        /// The schema it names.
        found: u16,
    },
}

impl Envelope {
    /// The key of its conversation.
    #[must_use]
    pub fn key(&self) -> ConversationKey {
        self.conversation.key(&self.integration)
    }

    /// An envelope caused by this one: the same conversation, trace and time of acceptance, no attempts, and an age
    /// that counts from the same moment.
    #[must_use]
    pub fn causing(&self, id: MessageId, body: Body) -> Self {
        let replays = self.replays.last().map(Replay::inherited).into_iter().collect();
        Self { schema: SCHEMA, id, attempts: Vec::new(), replays, body, ..self.clone() }
    }

    /// Adds a later text of the same burst, once however often it comes. Messages of other kinds are dropped, so only a
    /// stage of texts may join.
    pub fn join(&mut self, later: Self) {
        let (Body::Inbound(first), Body::Inbound(mut next)) = (&mut self.body, later.body) else { return };
        let followers = std::mem::take(&mut next.joined);
        let next = Joined { id: later.id, attempts: later.attempts, replays: later.replays, inbound: next };
        for text in std::iter::once(next).chain(followers) {
            if text.id != self.id && first.joined.iter().all(|known| known.id != text.id) {
                first.joined.push(text);
            }
        }
    }

    /// The payload to publish.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Every field is a string, number, list or map with string keys: serialising cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`Unreadable`] when it is no envelope, or one of a newer release.
    pub fn decode(payload: &[u8]) -> Result<Self, Unreadable> {
        match serde_json::from_slice::<Self>(payload) {
            Ok(envelope) if envelope.schema <= SCHEMA => Ok(envelope),
            Ok(envelope) => Err(Unreadable::Newer { found: envelope.schema }),
            Err(error) => Err(Unreadable::because(payload, &error)),
        }
    }
}

impl Unreadable {
    /// Why `payload` was refused with `error`: a newer release may have changed anything but the schema's place.
    fn because(payload: &[u8], error: &serde_json::Error) -> Self {
        #[derive(Deserialize)]
        struct Version {
            schema: u16,
        }
        match serde_json::from_slice(payload) {
            Ok(Version { schema }) if schema > SCHEMA => Self::Newer { found: schema },
            _ => Self::Shape { category: error.classify(), line: error.line(), column: error.column() },
        }
    }
}

impl std::fmt::Debug for Media {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL is a bearer secret: it is all that is needed to see the picture.
        write!(f, "Media({})", self.content_type.as_deref().unwrap_or("unknown type"))
    }
}

impl Conversation {
    /// The conversation of `customer` with `ours`.
    #[must_use]
    pub fn new(customer: Address, ours: Address) -> Self {
        Self { customer, ours }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"schema":1,"id":"5f0c3d1e-58a1-5b0e-9d3f-2f6f4a8f1c11","integration":"support",
        "conversation":{"customer":"+13035550199","ours":"+17205550100"},"accepted_at":"2025-06-01T12:00:00Z",
        "trace":"","body":{"type":"inbound","provider_message_id":"SM1","text":"Hi"}}"#;

    #[test]
    fn a_newer_schema_is_told_whether_or_not_its_shape_is_still_ours() {
        assert!(Envelope::decode(TEXT.as_bytes()).is_ok());
        for changed in [TEXT.to_owned(), TEXT.replace("inbound", "video"), r#"{"schema":1}"#.to_owned()] {
            let newer = changed.replace(r#""schema":1"#, r#""schema":7"#);
            let found = Envelope::decode(newer.as_bytes());
            assert!(matches!(found, Err(Unreadable::Newer { found: 7 })), "{newer}: {found:?}");
        }
    }

    #[test]
    fn what_is_no_envelope_is_told_by_its_place() {
        for text in ["", "{", "[]", "7", r#"{"schema":"1"}"#, r#"{"schema":70000}"#, r#"{"schema":1}"#] {
            let found = Envelope::decode(text.as_bytes());
            assert!(matches!(found, Err(Unreadable::Shape { line: 0 | 1, .. })), "{text}: {found:?}");
        }
    }
}
