//! What a handler decides about a delivery. It never settles one itself.

use std::time::Duration;

use async_trait::async_trait;
use broker::{Outgoing, Reason};
use message::Envelope;
use store::Halt;

/// Works on one message at a time of each conversation.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Decides about `envelope`. Attempts it records in the envelope travel on with a retry or a dead letter.
    async fn handle(&self, envelope: &mut Envelope) -> Decision;

    /// Decides about `envelope` as [`Handler::handle`] does, told about its stay in this process: what the loop asks.
    /// A handler that never decides to [rest](Settlement::Rest) need not care.
    async fn handle_in_lane(&self, envelope: &mut Envelope, _stay: Stay) -> Decision {
        self.handle(envelope).await
    }

    /// How long `envelope` waits for more messages of its conversation, to be handled as one with them
    /// ([`Envelope::join`]); zero, unless a handler says otherwise, joins nothing.
    fn join_window(&self, _envelope: &Envelope) -> Duration {
        Duration::ZERO
    }
}

/// A message's stay in its lane, in this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stay {
    /// How long it has rested here in all, by its own decisions.
    pub rested: Duration,
    /// So many lanes rest already that what can be parked should be: resting messages take the room in which others
    /// could come.
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
    /// Handle it again after this long, from here: its lane keeps it in front and rests, and its slot is free meanwhile.
    /// What the handler changed in the envelope stays. Effects are not published; stopping gives it back at once.
    Rest(Duration),
    /// Park it for this long. On RabbitMQ it may come back [earlier](broker::delay_step): who must not be early notes when
    /// it is due, and parks it again for the rest.
    RetryAfter(Duration),
    /// Set it aside for a person.
    DeadLetter(Reason),
    /// Leave it on the queue for whoever takes over: our own shutdown, which costs no attempt.
    GiveBack,
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
    /// It is not to be answered, by this rule.
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

    /// Set aside.
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

impl From<Halt> for Decision {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Stopping => Self::give_back(),
            Halt::Impossible(failure) => Self::dead_letter(Reason::of(&failure)),
        }
    }
}
