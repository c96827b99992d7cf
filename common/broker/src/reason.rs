//! Why a message became a dead letter.

use std::fmt;

use message::failure::Failure;

/// Why a message became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// A short stable name to filter by, such as `unreadable`, `permanent` or `assistant_unreachable`.
    pub name: &'static str,
    /// A sentence for people, safe to show.
    pub detail: String,
}

impl Reason {
    /// The reason `name`, explained by `detail`.
    pub fn new(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, detail: detail.into() }
    }

    /// The reason that `failure` gives, named after its kind.
    #[must_use]
    pub fn of(failure: &Failure) -> Self {
        Self::new(failure.kind.as_str(), failure.to_string())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.detail)
    }
}
