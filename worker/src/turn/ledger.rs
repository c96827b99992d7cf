//! The turn ledger: the result of each turn, parts included. A redelivered turn is not taken again; its parts are
//! published again, under the same ids.
//!
//! A turn that failed is settled until a person replays it: the entry says how often it had been replayed when it
//! failed, and an envelope that was replayed more often is asked again; the failure message then keeps its own id. A
//! turn that was answered stays settled, however often it is replayed.

use broker::{Destination, Outgoing, Reason, ReasonName, Stage};
use message::failure::{Failure, FailureKind};
use message::{Attempt, Body, Envelope, MessageId, MessageText, Part};
use serde::{Deserialize, Serialize};
use store::{Expect, Key, LEDGERS_REMEMBER, Record, Write};
use work::{Decision, Outcome};

/// The newest schema of an entry.
const SCHEMA: u16 = 1;

/// The result of a turn.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    schema: u16,
    texts: Vec<MessageText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unanswered: Option<Unanswered>,
    /// The text whose entry holds the result of this one too, if both were taken as one turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    with: Option<MessageId>,
}

/// Why the assistant did not answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Unanswered {
    /// The dead letter's reason.
    pub(super) cause: Cause,
    /// Its explanation.
    pub(super) detail: String,
    /// All attempts, those of earlier deliveries included; never empty.
    pub(super) attempts: Vec<Attempt>,
    /// How often the turn had been replayed when it failed.
    #[serde(default)]
    pub(super) times_replayed: usize,
}

/// What kept the assistant from answering.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cause {
    /// It cannot be reached: replay when it is back.
    Unreachable,
    /// Its settings are wrong: mend them, then replay.
    Misconfigured,
    /// It refuses this text.
    Refused,
}

impl Cause {
    /// What `failure` means for the turn.
    pub(super) fn of(failure: &Failure) -> Self {
        match failure.kind {
            FailureKind::Transient | FailureKind::Throttled | FailureKind::Unknown => Self::Unreachable,
            FailureKind::Misconfigured => Self::Misconfigured,
            FailureKind::Permanent | FailureKind::OptedOut => Self::Refused,
        }
    }

    fn name(self) -> ReasonName {
        match self {
            Self::Unreachable => ReasonName::AssistantUnreachable,
            Self::Misconfigured => ReasonName::AssistantMisconfigured,
            Self::Refused => ReasonName::AssistantRefused,
        }
    }
}

impl Entry {
    /// The assistant's answer, as the texts of its parts.
    pub(super) fn answered(texts: Vec<MessageText>) -> Self {
        Self { schema: SCHEMA, texts, unanswered: None, with: None }
    }

    /// The failure message, as the texts of its parts, and why it goes out.
    pub(super) fn unanswered(texts: Vec<MessageText>, why: Unanswered) -> Self {
        Self { schema: SCHEMA, texts, unanswered: Some(why), with: None }
    }

    /// A text that was taken as one turn with the earlier text `first`.
    pub(super) fn with(first: MessageId) -> Self {
        Self { with: Some(first), ..Self::answered(Vec::new()) }
    }

    /// Whether the text was taken as one turn with `first`.
    pub(super) fn is_with(&self, first: MessageId) -> bool {
        self.with == Some(first)
    }

    /// The key of the entry of the turn in `envelope`.
    pub(super) fn key(envelope: &Envelope) -> Key {
        Self::key_of(envelope, envelope.id)
    }

    /// The key of the entry of the text `id` of the same conversation.
    pub(super) fn key_of(envelope: &Envelope, id: MessageId) -> Key {
        Key::new(envelope.key().to_hex(), format!("turn/{id}"))
    }

    /// Reads an entry; one that cannot be read still stands for a turn that was taken.
    pub(super) fn read(record: &Record) -> Self {
        serde_json::from_slice(&record.value).unwrap_or_else(|_| {
            tracing::warn!("a turn's ledger entry cannot be read, its parts are not published again");
            Self::answered(Vec::new())
        })
    }

    /// The write that puts this entry at `key`.
    pub(super) fn put(&self, key: Key, expect: Expect) -> Write {
        // Strings, numbers and lists: serialising cannot fail.
        Write::put(key, expect, serde_json::to_vec(self).unwrap_or_default(), LEDGERS_REMEMBER)
    }

    /// Whether the assistant need not be asked: the turn was answered, or it failed and was not replayed since.
    pub(super) fn settles(&self, envelope: &Envelope) -> bool {
        self.unanswered.as_ref().is_none_or(|why| envelope.times_replayed() <= why.times_replayed)
    }

    /// The decision to publish the parts; then the turn is done with `outcome`, or a dead letter if the assistant did
    /// not answer.
    pub(super) fn decision(&self, envelope: &mut Envelope, outcome: Outcome) -> Decision {
        let parts = self.parts(envelope);
        let Some(why) = &self.unanswered else { return Decision::done(outcome).publishing(parts) };
        envelope.attempts.clone_from(&why.attempts);
        Decision::dead_letter(Reason::new(why.cause.name(), why.detail.clone())).publishing(parts)
    }

    fn parts(&self, envelope: &Envelope) -> Vec<Outgoing> {
        let part = |(index, text): (u16, &MessageText)| {
            // The failure message's id differs from that of any part of the answer that a replay may bring.
            let kind = if self.unanswered.is_some() { "failure" } else { "part" };
            let body = Part { turn: envelope.id, index, text: text.clone(), media: Vec::new() };
            let caused = envelope.causing(envelope.id.derive(&format!("{kind}/{index}")), Body::Part(body));
            Outgoing::new(Destination::Work(Stage::Outbound), &caused)
        };
        (0..).zip(&self.texts).map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry as an earlier release wrote it.
    macro_rules! entry {
        ($name:literal) => {{
            let value = include_bytes!(concat!("../../../tests/fixtures/records/v1/", $name, ".json")).as_slice();
            Entry::read(&Record { value: value.into(), version: 1 })
        }};
    }

    #[test]
    fn g3_turns_that_an_earlier_release_took_are_not_taken_again() {
        let answered = entry!("turn_answered");
        assert_eq!(answered.texts.iter().map(MessageText::expose).collect::<Vec<_>>(), ["one", "two"]);
        let why = entry!("turn_unanswered").unanswered.unwrap();
        assert_eq!((why.cause.name(), why.detail.as_str()), (ReasonName::AssistantUnreachable, "no connection"));
        assert_eq!((why.attempts.len(), why.times_replayed), (1, 0));
        assert!(entry!("turn_with").is_with(MessageId::parse("0191f3a0-0000-5000-8000-000000000007").unwrap()));
    }
}
