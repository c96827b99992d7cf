//! The decisions of a handler about a delivery. A handler never settles one itself.

use std::time::Duration;

use async_trait::async_trait;
use broker::{Outgoing, Reason};
use message::Envelope;
use store::Interrupted;

/// Works on one message at a time of each conversation.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Decides about `envelope`. Attempts that the handler records in the envelope are kept with a retry or a dead
    /// letter.
    async fn handle(&self, envelope: &mut Envelope) -> Decision;

    /// Decides about `envelope` as [`Handler::handle`] does, given the state of its lane in this process. This is what
    /// the run loop calls. A handler that never decides to [rest](Settlement::Rest) need not implement it.
    async fn handle_in_lane(&self, envelope: &mut Envelope, _stay: LaneState) -> Decision {
        self.handle(envelope).await
    }

    /// How long `envelope` waits for more messages of its conversation, to be handled as one with them
    /// ([`Envelope::join`]). The default is zero, which joins nothing.
    fn join_window(&self, _envelope: &Envelope) -> Duration {
        Duration::ZERO
    }
}

/// The state of a message and its lane in this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneState {
    /// How long the message has rested here in all, by the handler's decisions.
    pub rested: Duration,
    /// Whether too many lanes rest already. A message that can be parked should be then: resting messages take the room
    /// of others that could come in.
    pub is_crowded: bool,
}

/// What should happen now: publish `effects`, then settle.
#[derive(Debug)]
pub struct Decision {
    /// Messages to publish, confirmed before the delivery is settled.
    pub effects: Vec<Outgoing>,
    /// What to do with the delivery.
    pub settlement: Settlement,
}

/// What to do with a delivery.
#[derive(Debug)]
pub enum Settlement {
    /// Finished, with this outcome.
    Done(Outcome),
    /// Handle it again from here after this long. Until then its lane rests with the message in front, and its slot is
    /// free. The handler's changes to the envelope are kept. Effects are not published. A shutdown gives the message
    /// back at once.
    Rest(Duration),
    /// Park it for this long. On RabbitMQ it may come back [earlier](broker::delay_step): a handler that must not be
    /// early notes when the message is due, and parks it again for the rest.
    RetryAfter(Duration),
    /// Make it a dead letter, for a person to look at.
    DeadLetter(Reason),
    /// Leave it on the queue for the next process. This is for our own shutdown, and costs no attempt.
    GiveBack,
}

impl Settlement {
    /// What becomes of the message, in one word for metrics and logs: its outcome's name, or `parked`, `resting`,
    /// `dead_lettered` or `given_back`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Done(outcome) => outcome.as_str(),
            Self::Rest(_) => "resting",
            Self::RetryAfter(_) => "parked",
            Self::DeadLetter(_) => "dead_lettered",
            Self::GiveBack => "given_back",
        }
    }
}

/// How a message ended, other than as a dead letter. Each message has exactly one outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A turn was taken and its parts are queued.
    Answered,
    /// The provider accepted the part.
    Accepted,
    /// The provider refused the part because the customer wants no texts.
    OptedOut,
    /// The ledger says it was done before.
    Duplicate,
    /// The text is not answered, by this rule.
    Refused(RefusalRule),
    /// The receipt is recorded.
    Recorded,
}

impl Outcome {
    /// The outcome's name in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Accepted => "accepted",
            Self::OptedOut => "opted_out",
            Self::Duplicate => "duplicate",
            Self::Refused(_) => "refused",
            Self::Recorded => "recorded",
        }
    }
}

/// The rules by which texts are not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalRule {
    /// The number that was texted is not among the integration's.
    Number,
    /// The customer's country is not allowed.
    Country,
    /// No session is open, and customers may not open one.
    SessionNotOpen,
    /// No text can be sent to the customer's address, such as a sender id.
    Unanswerable,
}

impl RefusalRule {
    /// The rule's name in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Country => "country",
            Self::SessionNotOpen => "session_not_open",
            Self::Unanswerable => "unanswerable",
        }
    }
}

impl Decision {
    /// Finished, nothing to publish.
    #[must_use]
    pub fn done(outcome: Outcome) -> Self {
        Self { effects: Vec::new(), settlement: Settlement::Done(outcome) }
    }

    /// Handle again after `delay`, from its lane.
    #[must_use]
    pub fn rest(delay: Duration) -> Self {
        Self { effects: Vec::new(), settlement: Settlement::Rest(delay) }
    }

    /// Park for `delay`, or less: see [`Settlement::RetryAfter`].
    #[must_use]
    pub fn retry_after(delay: Duration) -> Self {
        Self { effects: Vec::new(), settlement: Settlement::RetryAfter(delay) }
    }

    /// Make it a dead letter, with `reason`.
    #[must_use]
    pub fn dead_letter(reason: Reason) -> Self {
        Self { effects: Vec::new(), settlement: Settlement::DeadLetter(reason) }
    }

    /// Leave on the queue.
    #[must_use]
    pub fn give_back() -> Self {
        Self { effects: Vec::new(), settlement: Settlement::GiveBack }
    }

    /// Adds messages to publish first.
    #[must_use]
    pub fn publishing(mut self, effects: Vec<Outgoing>) -> Self {
        self.effects = effects;
        self
    }
}

impl From<Interrupted> for Decision {
    fn from(halt: Interrupted) -> Self {
        match halt {
            Interrupted::Stopping => Self::give_back(),
            Interrupted::Impossible(failure) => Self::dead_letter(Reason::of(&failure)),
        }
    }
}
