//! What Twilio does to texts, lists and callbacks in some accounts and at some times, on demand. All of it is off by
//! default.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::journal::Message;

/// The sentence that a trial account puts before its texts.
const TRIAL_PREFIX: &str = "Sent from your Twilio trial account - ";
/// Some of the replacements that smart encoding makes for characters that would make a text longer,
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

/// The differences between the account and a plain one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TwilioQuirks {
    /// Texts begin with the sentence of a trial account.
    pub trial: bool,
    /// Characters outside GSM-7 are replaced by look-alikes.
    pub smart_encoding: bool,
    /// The API shows this instead of every text's words, because they were redacted: `""` or `"***"`.
    pub redacted: Option<String>,
    /// The API shows this after every text's words.
    pub appended: Option<String>,
    /// The list shows a text only this many milliseconds after it was accepted.
    pub list_lag_ms: u64,
    /// The `From` of status callbacks.
    pub callback_from: CallbackFrom,
    /// Status callbacks come this many milliseconds later.
    pub callback_delay_ms: u64,
    /// Every callback URL is refused with 21609, as if it could not be reached.
    pub refuse_callbacks: bool,
}

/// The `From` of a status callback.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackFrom {
    /// The number from which the text was sent.
    #[default]
    Number,
    /// This value.
    Other(String),
    /// The callback has no `From`.
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

    /// Whether the list already shows a text.
    pub(super) fn lists(&self, message: &Message, now: Timestamp) -> bool {
        let age_ms = now.as_millisecond().saturating_sub(message.accepted_at.as_millisecond());
        u64::try_from(age_ms).unwrap_or_default() >= self.list_lag_ms
    }

    /// The `From` of a callback for a text from `number`; `None` when the callback has no such field.
    pub(super) fn from<'a>(&'a self, number: &'a str) -> Option<&'a str> {
        match &self.callback_from {
            CallbackFrom::Number => Some(number),
            CallbackFrom::Other(other) => Some(other),
            CallbackFrom::Omitted => None,
        }
    }
}
