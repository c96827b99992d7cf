//! Points at which the fault suite kills a process, and switches that break it on purpose. They exist only in builds
//! with the feature `failpoints`. The shipped binary is built without it: there, reaching a step does nothing.

#[cfg(feature = "failpoints")]
mod armed;

#[cfg(feature = "failpoints")]
pub use armed::{Failpoints, Sabotage, arm, clock, is_broken};

/// A moment at which a crash is most likely to lose or repeat something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ingress: a webhook's message is durable, its caller has no answer yet.
    Accepted,
    /// Ingress, while the broker is away: half of what goes to the spool is written, nothing is synced.
    Spooling,
    /// Ingress, while the broker is away: a message is synced in the spool, its caller has no answer yet.
    Spooled,
    /// Worker: the assistant has answered, and the answer is not recorded yet.
    Answered,
    /// Worker: session and turn ledger are written, the parts have not left.
    Recorded,
    /// Sender: the ledger says that a call begins, and it has not begun.
    Sending,
    /// Sender: the provider has taken a text, the ledger does not know.
    Sent,
    /// Worker and sender: the decision is made, nothing of it is published.
    Settling,
    /// Worker and sender, where both are not one transaction: effects are published, their cause is still queued.
    Published,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Accepted,
        Self::Spooling,
        Self::Spooled,
        Self::Answered,
        Self::Recorded,
        Self::Sending,
        Self::Sent,
        Self::Settling,
        Self::Published,
    ];

    /// Its name in the fault suite.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Spooling => "spooling",
            Self::Spooled => "spooled",
            Self::Answered => "answered",
            Self::Recorded => "recorded",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Settling => "settling",
            Self::Published => "published",
        }
    }
}

/// Ends the process at once, as `kill -9` would, if it was told to die at this visit to `step`.
#[cfg(feature = "failpoints")]
pub fn reach(step: Step) {
    armed::reach(step, || ());
}

/// As [`reach`], but if the process is to die here, it does `last` first.
#[cfg(feature = "failpoints")]
pub fn reach_doing(step: Step, last: impl FnOnce()) {
    armed::reach(step, last);
}

/// Whether ingress is to answer before the spool holds anything: an order that the fault suite's judge has to notice.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn skips_the_spool() -> bool {
    is_broken(Sabotage::SkipSpool)
}

/// Does nothing in this build.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn reach(_step: Step) {}

/// Does nothing in this build.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn reach_doing(_step: Step, _last: impl FnOnce()) {}

/// Always `false` in this build.
#[cfg(not(feature = "failpoints"))]
#[inline]
#[must_use]
pub const fn skips_the_spool() -> bool {
    false
}
