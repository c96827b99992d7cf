//! A decoded dead letter: its envelope, or the hash and the error of a payload that cannot be decoded.

use message::clock::Timestamp;
use message::{Body, Envelope};
use sha2::{Digest as _, Sha256};

use super::{DeadLetter, LetterTag};
use crate::{Destination, Outgoing, Stage};

/// A dead letter, decoded where possible.
#[derive(Debug)]
pub struct Letter {
    /// Identifies it, within the walk that returned it.
    pub tag: LetterTag,
    /// The stage it came from.
    pub stage: Stage,
    /// Why it was dead-lettered: the reason's name.
    pub reason: String,
    /// The reason in a sentence; may be empty.
    pub detail: String,
    /// When it was dead-lettered; `None` where the broker does not know.
    pub died_at: Option<Timestamp>,
    /// The headers it travelled with.
    pub headers: Vec<(String, String)>,
    /// The payload's size in bytes.
    pub size_bytes: usize,
    /// The decoded payload, or why it cannot be decoded.
    pub content: Content,
}

/// What a dead letter holds.
#[derive(Debug)]
pub enum Content {
    /// A message.
    Message(Box<Envelope>),
    /// A payload that this release cannot decode.
    Unreadable {
        /// The SHA-256 of the payload, in 64 hexadecimal digits.
        sha256: String,
        /// The decoding error.
        why: String,
    },
}

/// The order of a replay: by time of acceptance, then by the part's index within its turn, then by time of death. So
/// each conversation, and the parts of each turn, keep their order.
pub(super) type Rank = (Timestamp, u16, Option<Timestamp>, LetterTag);

impl Letter {
    /// Decodes `letter`.
    #[must_use]
    pub fn read(letter: DeadLetter) -> Self {
        let DeadLetter { tag, stage, reason, detail, died_at, headers, payload } = letter;
        let content = match Envelope::decode(&payload) {
            Ok(envelope) => Content::Message(Box::new(envelope)),
            Err(why) => Content::Unreadable { sha256: hex::encode(Sha256::digest(&payload)), why: why.to_string() },
        };
        Self { tag, stage, reason, detail, died_at, headers, size_bytes: payload.len(), content }
    }

    /// The envelope; `None` if the payload is unreadable.
    #[must_use]
    pub fn envelope(&self) -> Option<&Envelope> {
        match &self.content {
            Content::Message(envelope) => Some(envelope),
            Content::Unreadable { .. } => None,
        }
    }

    /// Its name: the message's id, or `sha256:` and the first 16 digits of the payload's hash.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.content {
            Content::Message(envelope) => envelope.id.to_string(),
            Content::Unreadable { sha256, .. } => format!("sha256:{}", sha256.get(..16).unwrap_or_default()),
        }
    }

    pub(super) fn rank(&self) -> Rank {
        let Some(envelope) = self.envelope() else {
            return (self.died_at.unwrap_or(Timestamp::MAX), 0, self.died_at, self.tag);
        };
        let index = if let Body::Part(part) = &envelope.body { part.index } else { 0 };
        (envelope.accepted_at, index, self.died_at, self.tag)
    }

    /// The message to publish when `by` replays the letter at `at`, with the letter's tag; `None` if the letter is
    /// unreadable.
    pub(super) fn replayed(self, at: Timestamp, by: &str) -> Option<(LetterTag, Outgoing)> {
        let Content::Message(mut envelope) = self.content else { return None };
        envelope.replay(at, by, &self.reason);
        Some((self.tag, Outgoing::new(Destination::Work(self.stage), &envelope)))
    }
}
