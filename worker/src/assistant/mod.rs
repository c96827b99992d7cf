//! The port to assistants. Each kind has a folder; `turn` knows only this file and [`Item`].

mod attempts;
mod item;
mod scripted;
mod watsonx;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use integration::AssistantSettings;
use message::failure::Failure;
use message::{Conversation, Media, MessageText};
use serde_json::Value;

pub use attempts::Attempts;
pub use item::{Choice, ChoiceList, Item};

/// Answers customers.
#[async_trait]
pub trait Assistant: Send + Sync + fmt::Debug {
    /// Answers one turn, with the retries and backups that its settings allow.
    ///
    /// # Errors
    /// The last failure; every failed call is also in [`Turn::attempts`].
    async fn answer(&self, turn: &Turn<'_>) -> Result<Answer, Failure>;
}

/// The assistant that `settings` describe.
///
/// # Errors
/// When they cannot be used: a dialogue file with problems, an invalid URL.
pub fn open(settings: &AssistantSettings) -> Result<Arc<dyn Assistant>, Failure> {
    Ok(match settings {
        AssistantSettings::Watsonx(settings) => Arc::new(watsonx::Watsonx::new(settings)?),
        AssistantSettings::Scripted(settings) => Arc::new(scripted::Scripted::open(settings)?),
    })
}

/// What the customer said, and everything an assistant may want to know about it.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// The words or the choice.
    pub input: Input<'a>,
    /// What [`Answer::state`] was after the session's last turn; null in a new session.
    pub state: &'a Value,
    /// A stable name for the customer that is not their number: 32 hexadecimal digits, so also a legal header value.
    pub user_id: &'a str,
    /// The two numbers.
    pub conversation: &'a Conversation,
    /// The session's GUID on our side.
    pub sms_session: &'a str,
    /// Media that came along.
    pub media: &'a [Media],
    /// Where failed calls are recorded.
    pub attempts: &'a Attempts,
}

/// What the customer said.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// As typed.
    Text(&'a MessageText),
    /// A choice from the open list: its [`Choice::input`], unchanged.
    Choice(&'a Value),
}

/// What the assistant said.
#[derive(Clone, PartialEq)]
pub struct Answer {
    /// What to show, in order.
    pub items: Vec<Item>,
    /// What the assistant wants to be given in the next turn; only its own kind can read it.
    pub state: Value,
    /// Whether the session is over after this answer.
    pub ends_session: bool,
}

impl fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("sms_session", &self.sms_session).finish_non_exhaustive()
    }
}

impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(…)",
            Self::Choice(_) => "Choice(…)",
        })
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The state belongs to the assistant and may hold anything.
        f.debug_struct("Answer")
            .field("items", &self.items)
            .field("ends_session", &self.ends_session)
            .finish_non_exhaustive()
    }
}
