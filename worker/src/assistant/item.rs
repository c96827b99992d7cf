//! What an assistant's answer is made of. A new kind of content becomes a variant here, is read in the assistants'
//! folders and shown in `render/`; nothing between needs to change.

use std::fmt;

use message::MessageText;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One piece of an answer. Pieces that the assistant hides from text messaging never become items.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Words.
    Text(MessageText),
    /// A list to choose from.
    Options(ChoiceList),
    /// A list of what the customer may have meant ("did you mean").
    Suggestions(ChoiceList),
    /// Something that cannot be shown; it is ignored and counted.
    Other {
        /// The assistant's name for it.
        response_type: String,
    },
}

/// A list to choose from.
#[derive(Debug, Clone, PartialEq)]
pub struct ChoiceList {
    /// The line above the list; may be empty.
    pub title: MessageText,
    /// A line below the title, if any.
    pub description: Option<MessageText>,
    /// The choices, in order.
    pub choices: Vec<Choice>,
}

/// One choice of a list.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// What the customer sees.
    pub label: MessageText,
    /// What the assistant is given, unchanged, when it is chosen.
    pub input: Value,
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The input repeats the words of the label.
        f.write_str("Choice(…)")
    }
}
