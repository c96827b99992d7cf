//! What Twilio does to texts, lists and callbacks in some accounts and at some times, on demand. By default it does none of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::journal::Message;

/// What a trial account puts before its texts.
const TRIAL_PREFIX: &str = "Sent from your Twilio trial account - ";
/// Some of what smart encoding writes for characters that would make a text longer,
/// <https://www.twilio.com/docs/messaging/services/smart-encoding-char-list>.
const SMART: [(char, &str); 12] = [
    ('“', "\""),
    ('”', "\""),
    ('«', "\""),
    ('‘', "'"),
    ('’', "'"),
    ('–', "-"),
    ('—', "-"),
    ('•', "-"),
    ('…', "..."),
    ('½', "1/2"),
    ('\u{a0}', "  "),
    ('\u{200b}', ""),
];

/// How the account differs from a plain one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TwilioQuirks {
    /// Texts begin with the sentence of a trial account.
    pub trial: bool,
    /// Characters outside GSM-7 are replaced by look-alikes.
    pub smart_encoding: bool,
    /// The API shows this in the place of every text's words, which were redacted: `""`, or `"***"`.
    pub redacted: Option<String>,
    /// The API shows this after every text's words.
    pub appended: Option<String>,
    /// The list shows a text only so many milliseconds after it was accepted.
    pub list_lag_ms: u64,
    /// What callbacks say in `From`.
    pub callback_from: CallbackFrom,
    /// Status callbacks come so many milliseconds later.
    pub callback_delay_ms: u64,
    /// Every callback URL is refused with 21609, as if it could not be reached.
    pub refuse_callbacks: bool,
}

/// What a status callback says in `From`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackFrom {
    /// The number that the text left from.
    #[default]
    Number,
    /// This.
    Other(String),
    /// There is no such field.
    Omitted,
}

impl TwilioQuirks {
    /// A text's words as the API shows them.
    pub(super) fn shown(&self, words: &str) -> String {
        if let Some(redacted) = &self.redacted {
            return redacted.clone();
        }
        let mut shown = if self.trial { TRIAL_PREFIX.to_owned() } else { String::new() };
        for character in words.chars() {
            match SMART.iter().find(|(from, _)| self.smart_encoding && *from == character) {
                Some((_, to)) => shown.push_str(to),
                None => shown.push(character),
            }
        }
        shown.push_str(self.appended.as_deref().unwrap_or_default());
        shown
    }

    /// Whether the list shows a text yet.
    pub(super) fn lists(&self, message: &Message, now: Timestamp) -> bool {
        let age_ms = now.as_millisecond().saturating_sub(message.accepted_at.as_millisecond());
        u64::try_from(age_ms).unwrap_or_default() >= self.list_lag_ms
    }

    /// What a callback says in `From` for a text from `number`; `None` when it has no such field.
    pub(super) fn from<'a>(&'a self, number: &'a str) -> Option<&'a str> {
        match &self.callback_from {
            CallbackFrom::Number => Some(number),
            CallbackFrom::Other(other) => Some(other),
            CallbackFrom::Omitted => None,
        }
    }
}
