//! The conversation's record in the store: the assistant's state, the open list, and the session's GUID. It ends
//! together with the session, by its time to live.

use message::clock::Timestamp;
use message::{Envelope, MessageId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Key, Record};

use crate::render::OpenList;

/// The newest schema of the record.
const SCHEMA: u16 = 1;

/// A running session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Session {
    schema: u16,
    /// The session's GUID, which the assistant sees as `smsSessionID`.
    pub(crate) sms_session: MessageId,
    /// When the last turn was taken.
    pub(crate) last_activity: Timestamp,
    /// The list the customer may choose from.
    pub(crate) list: Option<OpenList>,
    /// The assistant's own state; null before its first answer.
    assistant: State,
}

/// What only the assistant can read, and no log may show.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct State(Value);

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State(…)")
    }
}

impl Session {
    /// A session that the text in `envelope` opens at `now`. Its GUID derives from that text, so that a turn taken
    /// twice opens the same session.
    pub(crate) fn opened_by(envelope: &Envelope, now: Timestamp) -> Self {
        let sms_session = envelope.id.derive("session");
        Self { schema: SCHEMA, sms_session, last_activity: now, list: None, assistant: State::default() }
    }

    /// Where the session of the envelope's conversation is kept.
    pub(crate) fn key(envelope: &Envelope) -> Key {
        Key::new(envelope.key().to_hex(), "session")
    }

    /// Reads a record; `None` when this release cannot read what another release wrote: the session then starts anew.
    pub(crate) fn read(record: &Record) -> Option<Self> {
        let session: Option<Self> = serde_json::from_slice(&record.value).ok().filter(|s: &Self| s.schema <= SCHEMA);
        if session.is_none() {
            tracing::warn!("a session record cannot be read, the session starts anew");
        }
        session
    }

    /// The record's value.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // JSON values, strings and lists: serialising cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The assistant's state.
    pub(crate) fn assistant_state(&self) -> &Value {
        &self.assistant.0
    }

    /// The session after a turn taken at `now`.
    pub(crate) fn after(self, assistant: Value, list: Option<OpenList>, now: Timestamp) -> Self {
        Self { last_activity: now, list, assistant: State(assistant), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_earlier_releases_go_on() {
        let session = |value: &'static [u8]| {
            let session = Session::read(&Record { value: value.into(), version: 1 }).unwrap();
            assert_eq!(Session::read(&Record { value: session.encode().into(), version: 2 }).unwrap(), session);
            assert_eq!(session.sms_session.to_string(), "0191f3a0-0000-5000-8000-000000000006");
            assert_eq!(session.last_activity.to_string(), "2026-11-22T09:30:00.5Z");
            session
        };
        let running = session(include_bytes!("../../tests/fixtures/records/v1/session.json"));
        assert_eq!(running.assistant_state()["session_id"], "abc");
        let chosen = running.list.as_ref().and_then(|list| list.choose("1")).unwrap();
        assert_eq!((chosen.label.expose(), &chosen.input["text"]), ("Opening hours", &Value::from("hours")));
        let fresh = session(include_bytes!("../../tests/fixtures/records/v1/session_fresh.json"));
        assert_eq!((fresh.list.is_none(), fresh.assistant_state()), (true, &Value::Null));
    }
}
