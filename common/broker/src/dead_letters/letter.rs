//! A dead letter that was read: its envelope, or what can be said of a payload that nobody can read.

use message::clock::Timestamp;
use message::{Body, Envelope};
use sha2::{Digest as _, Sha256};

use super::{DeadLetter, Place};
use crate::{Destination, Outgoing, Stage};

/// A dead letter that was read.
#[derive(Debug)]
pub struct Letter {
    /// Where it lies.
    pub place: Place,
    /// The stage it came from.
    pub stage: Stage,
    /// Why it was set aside, in a word.
    pub reason: String,
    /// The same in a sentence; may be empty.
    pub detail: String,
    /// When it was set aside, where the broker knows.
    pub died_at: Option<Timestamp>,
    /// The headers it travelled with.
    pub headers: Vec<(String, String)>,
    /// How many bytes its payload has.
    pub size_bytes: usize,
    /// The message.
    pub content: Content,
}

/// What a dead letter holds.
#[derive(Debug)]
pub enum Content {
    /// A message.
    Message(Box<Envelope>),
    /// Something that this release cannot read.
    Unreadable {
        /// The SHA-256 of the payload, in 64 hexadecimal digits.
        sha256: String,
        /// Why it cannot.
        why: String,
    },
}

/// Where a letter stands among those to be replayed: conversations keep their order of acceptance, the parts of a turn
/// theirs, and where that does not tell, who died first goes first.
pub(super) type Rank = (Timestamp, u16, Option<Timestamp>, Place);

impl Letter {
    /// Reads `letter`.
    #[must_use]
    pub fn read(letter: DeadLetter) -> Self {
        let DeadLetter { place, stage, reason, detail, died_at, headers, payload } = letter;
        let content = match Envelope::decode(&payload) {
            Ok(envelope) => Content::Message(Box::new(envelope)),
            Err(why) => Content::Unreadable { sha256: hex::encode(Sha256::digest(&payload)), why: why.to_string() },
        };
        Self { place, stage, reason, detail, died_at, headers, size_bytes: payload.len(), content }
    }

    /// The message, if it can be read.
    #[must_use]
    pub fn envelope(&self) -> Option<&Envelope> {
        match &self.content {
            Content::Message(envelope) => Some(envelope),
            Content::Unreadable { .. } => None,
        }
    }

    /// What to call it by: the message's id, or `sha256:` and the first 16 digits of the payload's hash.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.content {
            Content::Message(envelope) => envelope.id.to_string(),
            Content::Unreadable { sha256, .. } => format!("sha256:{}", sha256.get(..16).unwrap_or_default()),
        }
    }

    pub(super) fn rank(&self) -> Rank {
        let Some(envelope) = self.envelope() else {
            return (self.died_at.unwrap_or(Timestamp::MAX), 0, self.died_at, self.place);
        };
        let index = if let Body::Part(part) = &envelope.body { part.index } else { 0 };
        (envelope.accepted_at, index, self.died_at, self.place)
    }

    /// The message on its way again, replayed by `by` at `at`; `None` if it cannot be read.
    pub(super) fn replayed(self, at: Timestamp, by: &str) -> Option<(Place, Outgoing)> {
        let Content::Message(mut envelope) = self.content else { return None };
        envelope.replay(at, by, &self.reason);
        Some((self.place, Outgoing::new(Destination::Work(self.stage), &envelope)))
    }
}
