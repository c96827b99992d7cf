//! Whether the front door can keep messages while the broker cannot: told by ingress, asked by the readiness check.

use std::sync::{Mutex, PoisonError};

/// How the spool is, as ingress last knew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SpoolState {
    /// There is none: no message can be taken without the broker.
    #[default]
    Off,
    /// It is empty and takes messages.
    Idle,
    /// It takes messages, and so many wait in it.
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

/// Carries the state from ingress to whoever asks. One for each process that has a front door.
#[derive(Debug, Default)]
pub struct Intake(Mutex<SpoolState>);

impl Intake {
    /// Tells how the spool is now.
    pub fn set_spool(&self, state: SpoolState) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// How the spool is.
    #[must_use]
    pub fn spool(&self) -> SpoolState {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
