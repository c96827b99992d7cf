//! Whether ingress can keep messages while the broker cannot: set by ingress, read by the readiness check.

use std::sync::{Mutex, PoisonError};

/// The spool's state as ingress last knew it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SpoolState {
    /// There is no spool: no message can be taken without the broker.
    #[default]
    Off,
    /// It is empty and takes messages.
    Idle,
    /// It takes messages, and this many wait in it.
    InUse(u64),
    /// It holds as much as it may.
    Full,
    /// It cannot be written.
    Failing,
}

impl SpoolState {
    /// Whether the next message would be taken.
    #[must_use]
    pub fn takes_messages(self) -> bool {
        match self {
            Self::Idle | Self::InUse(_) => true,
            Self::Off | Self::Full | Self::Failing => false,
        }
    }
}

/// Carries the spool's state from ingress to the readiness check. There is one in each process that runs ingress.
#[derive(Debug, Default)]
pub struct Intake(Mutex<SpoolState>);

impl Intake {
    /// Sets the spool's state.
    pub fn set_spool(&self, state: SpoolState) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Returns the spool's state.
    #[must_use]
    pub fn spool(&self) -> SpoolState {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
