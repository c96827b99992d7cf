//! The error that carries its own decision: the kind of failure tells the caller what to do next.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// What a failure means for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Nothing happened, and the same call may succeed later.
    Transient,
    /// The other side told us to slow down; nothing happened. All of the failure's [`Scope`] should pause, not only
    /// this message.
    Throttled,
    /// The call may have had its effect: ask before doing it again.
    Unknown,
    /// This message can never succeed.
    Permanent,
    /// The customer opted out of texts: this message ends, and that is no fault.
    OptedOut,
    /// No such call can succeed until an operator fixes a setting (credentials, numbers, permissions).
    Misconfigured,
}

impl FailureKind {
    /// Whether the same call is worth trying again without an operator's help.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Transient | Self::Throttled | Self::Unknown => true,
            Self::Permanent | Self::OptedOut | Self::Misconfigured => false,
        }
    }

    /// The name used in metrics, attempts and dead letters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Unknown => "unknown",
            Self::Permanent => "permanent",
            Self::OptedOut => "opted_out",
            Self::Misconfigured => "misconfigured",
        }
    }
}

/// The texts that a request to slow down applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Scope {
    /// Texts between the two numbers of the conversation.
    Pair,
    /// All texts of our number.
    #[default]
    Number,
    /// All texts of the provider account, whatever integration they belong to.
    Account,
}

/// A failed call, classified once where it was made. Its text never holds a secret, a message text or a whole number.
#[derive(Debug)]
pub struct Failure {
    /// What it means.
    pub kind: FailureKind,
    /// The other side's own code, such as Twilio's `21610` or an HTTP status.
    pub code: Option<String>,
    /// The other side's hint to wait: a floor for the next attempt, never shortened.
    pub retry_after: Option<Duration>,
    /// The texts that the request to slow down applies to, where it is [`FailureKind::Throttled`].
    pub scope: Scope,
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure of `kind`, described by `what` in a few lower-case words.
    pub fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Self { kind, code: None, retry_after: None, scope: Scope::Number, what: what.into(), source: None }
    }

    /// A failure after which the same call may succeed later.
    pub fn transient(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Transient, what)
    }

    /// A failure that no retry can fix.
    pub fn permanent(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Permanent, what)
    }

    /// A call that may have had its effect.
    pub fn unknown(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Unknown, what)
    }

    /// A failure that waits for an operator.
    pub fn misconfigured(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Misconfigured, what)
    }

    /// Adds the cause. Its text must be safe to log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds the other side's code.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Sets the texts that the request to slow down applies to.
    #[must_use]
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Adds the other side's hint to wait.
    #[must_use]
    pub fn with_retry_after(mut self, hint: Option<Duration>) -> Self {
        self.retry_after = hint;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(code) = &self.code {
            write!(f, " (code {code})")?;
        }
        let mut cause: Option<&(dyn Error + 'static)> = self.source.as_deref().map(|e| e as _);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Error for Failure {}
