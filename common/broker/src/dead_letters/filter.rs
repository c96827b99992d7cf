//! Selects dead letters for an operator's command.

use std::fmt;
use std::time::Duration;

use message::clock::Timestamp;
use message::{Address, Envelope, IntegrationId};

use super::{Content, Letter};
use crate::Stage;

/// The conditions on a dead letter, all of which must hold. An absent condition matches every letter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The stage it came from.
    pub stage: Option<Stage>,
    /// The integration it belongs to.
    pub integration: Option<IntegrationId>,
    /// Its reason's name.
    pub reason: Option<String>,
    /// It has been dead for at least this long.
    pub older_than: Option<Duration>,
    /// It has been dead for at most this long.
    pub newer_than: Option<Duration>,
    /// Its conversation.
    pub conversation: Option<ConversationFilter>,
    /// Its name is one of these or begins with one: a message's id, or `sha256:…`. Empty: any.
    pub names: Vec<String>,
}

impl Filter {
    /// Whether it matches every dead letter: no condition is set.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `letter` matches, as of `now`. A condition on an unknown property never matches: the integration of an
    /// unreadable letter, or a time of death that the broker does not know.
    #[must_use]
    pub fn takes(&self, letter: &Letter, now: Timestamp) -> bool {
        let envelope = letter.envelope();
        let age = letter.died_at.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
        self.stage.is_none_or(|stage| stage == letter.stage)
            && self.reason.as_ref().is_none_or(|reason| *reason == letter.reason)
            && self.older_than.is_none_or(|bound| age.is_some_and(|age| age >= bound))
            && self.newer_than.is_none_or(|bound| age.is_some_and(|age| age <= bound))
            && self.integration.as_ref().is_none_or(|id| envelope.is_some_and(|e| e.integration == *id))
            && self.conversation.as_ref().is_none_or(|wanted| envelope.is_some_and(|e| wanted.takes(e)))
            && (self.names.is_empty() || self.names.iter().any(|name| is_named(letter, name)))
    }
}

/// Whether `name` is the letter's name, or the beginning of it.
fn is_named(letter: &Letter, name: &str) -> bool {
    match (&letter.content, name.strip_prefix("sha256:")) {
        (Content::Message(envelope), None) => envelope.id.to_string().starts_with(name),
        (Content::Unreadable { sha256, .. }, Some(digits)) => sha256.starts_with(digits),
        (Content::Message(_), Some(_)) | (Content::Unreadable { .. }, None) => false,
    }
}

/// One conversation, or all that match a masked number or the beginning of a hash.
#[derive(Clone, PartialEq, Eq)]
pub enum ConversationFilter {
    /// The customer's number, where a run of asterisks stands for one or more characters.
    Number {
        /// What stands before the asterisks.
        start: String,
        /// What stands after them; `None` without any.
        end: Option<String>,
    },
    /// The key's hexadecimal digits begin with these.
    Hash(String),
}

impl fmt::Debug for ConversationFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConversationFilter(…)")
    }
}

/// The text names no conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a customer's number, masked by one run of asterisks (`+1303*****42`, `*42`) or whole (`+13035550142`), or the first 4 to 32 hexadecimal digits of the conversation's hash"
)]
pub struct InvalidConversationFilter;

impl ConversationFilter {
    /// Reads a masked or whole number, or the beginning of a conversation's hash.
    ///
    /// # Errors
    /// [`InvalidConversationFilter`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidConversationFilter> {
        let text = text.trim();
        if let (Some(first), Some(last)) = (text.find('*'), text.rfind('*')) {
            let (start, rest) = text.split_at(first);
            let (run, end) = rest.split_at(last + 1 - first);
            let is_one_run = run.bytes().all(|b| b == b'*') && !(start.is_empty() && end.is_empty());
            let number = Self::Number { start: start.to_owned(), end: Some(end.to_owned()) };
            return if is_one_run { Ok(number) } else { Err(InvalidConversationFilter) };
        }
        if text.starts_with('+') || text.contains(':') {
            let start = Address::parse(text).map_err(|_| InvalidConversationFilter)?.expose().to_owned();
            return Ok(Self::Number { start, end: None });
        }
        let is_hash = (4..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        if is_hash { Ok(Self::Hash(text.to_ascii_lowercase())) } else { Err(InvalidConversationFilter) }
    }

    fn takes(&self, envelope: &Envelope) -> bool {
        let number = envelope.conversation.customer.expose();
        match self {
            Self::Hash(start) => envelope.key().to_hex().starts_with(start),
            Self::Number { start, end: None } => number == start,
            Self::Number { start, end: Some(end) } => {
                let hidden = number.strip_prefix(start.as_str()).and_then(|rest| rest.strip_suffix(end.as_str()));
                hidden.is_some_and(|hidden| !hidden.is_empty())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use message::{Body, Inbound, MessageId};
    use message::{Conversation, SCHEMA};

    use super::*;
    use crate::dead_letters::{DeadLetter, LetterTag};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn letter(died_at: Option<Timestamp>) -> Letter {
        let number = |text| Address::parse(text).unwrap();
        let integration = IntegrationId::parse("support").unwrap();
        let inbound =
            Inbound { provider_message_id: "SM1".to_owned(), text: "hi".into(), media: Vec::new(), joined: Vec::new() };
        let envelope = Envelope {
            schema: SCHEMA,
            id: MessageId::of_provider(&integration, "SM1"),
            integration,
            conversation: Conversation::new(number("+13035550199"), number("+17205550100")),
            accepted_at: at(0),
            attempts: Vec::new(),
            replays: Vec::new(),
            trace: String::new(),
            body: Body::Inbound(inbound),
        };
        read(envelope.encode().into(), died_at)
    }

    fn read(payload: bytes::Bytes, died_at: Option<Timestamp>) -> Letter {
        let (tag, stage, reason) = (LetterTag(1), Stage::Inbound, "expired".to_owned());
        Letter::read(DeadLetter { tag, stage, reason, detail: String::new(), died_at, headers: Vec::new(), payload })
    }

    fn of_conversation(text: &str) -> Filter {
        Filter { conversation: Some(ConversationFilter::parse(text).unwrap()), ..Filter::default() }
    }

    #[test]
    fn a_conversation_is_named_by_number_or_hash() {
        let letter = letter(None);
        for named in [
            "+*********99",
            "*99",
            "+1303*0199",
            "+13035550199",
            "+1 303 555-0199",
            "2570",
            "2570A818286cb81db434fbeca103aea8",
        ] {
            assert!(of_conversation(named).takes(&letter, at(0)), "{named}");
        }
        for other in ["+*********98", "+1303555*5550199", "+13035550199*", "+1303555019", "2571"] {
            assert!(!of_conversation(other).takes(&letter, at(0)), "{other}");
        }
        for nonsense in ["", "*", "+1*30*3", "99", "xyz1", "***"] {
            assert_eq!(ConversationFilter::parse(nonsense), Err(InvalidConversationFilter), "{nonsense}");
        }
    }

    #[test]
    fn everything_given_must_hold_and_what_is_unknown_never_does() {
        let (known, unreadable) = (letter(Some(at(100))), read("nonsense".into(), None));
        let minute = Some(Duration::from_secs(60));
        let (id, hash) = (known.name(), unreadable.name());
        let any = Filter::default();
        let cases = [
            (any.clone(), true, true),
            (Filter { stage: Some(Stage::Outbound), ..any.clone() }, false, false),
            (Filter { reason: Some("expired".to_owned()), stage: Some(Stage::Inbound), ..any.clone() }, true, true),
            (Filter { reason: Some("expire".to_owned()), ..any.clone() }, false, false),
            (Filter { integration: IntegrationId::parse("support").ok(), ..any.clone() }, true, false),
            (Filter { integration: IntegrationId::parse("sales").ok(), ..any.clone() }, false, false),
            (Filter { older_than: minute, ..any.clone() }, true, false),
            (Filter { newer_than: minute, ..any.clone() }, true, false),
            (Filter { newer_than: Some(Duration::from_secs(59)), ..any.clone() }, false, false),
            (Filter { names: vec!["nobody".to_owned(), id], ..any.clone() }, true, false),
            (Filter { names: vec![hash], ..any }, false, true),
        ];
        for (filter, takes_known, takes_unreadable) in cases {
            assert_eq!(filter.takes(&known, at(160)), takes_known, "{filter:?}");
            assert_eq!(filter.takes(&unreadable, at(160)), takes_unreadable, "{filter:?}");
        }
    }
}
