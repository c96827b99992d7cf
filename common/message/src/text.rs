//! The words of a text message, which no log may show.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The words of a text message. `Debug` shows only their length; there is no `Display`.
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageText(String);

impl MessageText {
    /// The words themselves: to be handed on, never logged.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for MessageText {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for MessageText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageText({} chars)", self.0.chars().count())
    }
}
