//! Why a message became a dead letter.

use std::fmt;

use message::failure::{Failure, FailureKind};

/// The names by which operators filter dead letters, each with a row in `docs/dead-letters.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReasonName {
    /// No location of the assistant answered.
    AssistantUnreachable,
    /// The assistant refused our credentials or ids.
    AssistantMisconfigured,
    /// The assistant refused this text for good.
    AssistantRefused,
    /// It was too old when its turn came.
    Expired,
    /// No integration has its id.
    UnknownIntegration,
    /// It lay in a queue for another kind of message.
    Misrouted,
    /// It can never succeed.
    Permanent,
    /// It fails until an operator changes a setting.
    Misconfigured,
    /// Every attempt failed.
    Exhausted,
    /// It may have been sent, and there is no way to find out.
    UnknownOutcome,
    /// The handler panicked on it.
    HandlerPanicked,
    /// Each process that handled it died.
    ProcessKiller,
    /// It cannot be read.
    Unreadable,
    /// It is larger than the limit for payloads.
    Oversized,
    /// RabbitMQ handed it out too often; the broker itself gives this reason.
    DeliveryLimit,
}

impl ReasonName {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::AssistantUnreachable,
        Self::AssistantMisconfigured,
        Self::AssistantRefused,
        Self::Expired,
        Self::UnknownIntegration,
        Self::Misrouted,
        Self::Permanent,
        Self::Misconfigured,
        Self::Exhausted,
        Self::UnknownOutcome,
        Self::HandlerPanicked,
        Self::ProcessKiller,
        Self::Unreadable,
        Self::Oversized,
        Self::DeliveryLimit,
    ];

    /// The name in logs, dead letters and commands.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AssistantUnreachable => "assistant_unreachable",
            Self::AssistantMisconfigured => "assistant_misconfigured",
            Self::AssistantRefused => "assistant_refused",
            Self::Expired => "expired",
            Self::UnknownIntegration => "unknown_integration",
            Self::Misrouted => "misrouted",
            Self::Permanent => "permanent",
            Self::Misconfigured => "misconfigured",
            Self::Exhausted => "exhausted",
            Self::UnknownOutcome => "unknown_outcome",
            Self::HandlerPanicked => "handler_panicked",
            Self::ProcessKiller => "process_killer",
            Self::Unreadable => "unreadable",
            Self::Oversized => "oversized",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// Why a message became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The name to filter by.
    pub name: ReasonName,
    /// A sentence for people, safe to show.
    pub detail: String,
}

impl Reason {
    /// The reason `name`, explained by `detail`.
    pub fn new(name: ReasonName, detail: impl Into<String>) -> Self {
        Self { name, detail: detail.into() }
    }

    /// The reason for dead-lettering a message on `failure`, which is not to be retried.
    #[must_use]
    pub fn of(failure: &Failure) -> Self {
        let name = match failure.kind {
            FailureKind::Misconfigured => ReasonName::Misconfigured,
            _ => ReasonName::Permanent,
        };
        Self::new(name, failure.to_string())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name.as_str(), self.detail)
    }
}
