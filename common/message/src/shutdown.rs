//! Stopping in two steps: stop taking, then finish what is in flight within a grace period.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Told to every task that must end when the process does. Cheap to clone; one per process or test.
#[derive(Debug, Clone)]
pub struct Shutdown {
    token: CancellationToken,
    grace: Duration,
}

impl Shutdown {
    /// A shutdown that nobody has asked for yet; in-flight work gets `grace` once somebody does.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self { token: CancellationToken::new(), grace }
    }

    /// How long work in flight may go on after [`Shutdown::start`].
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Asks everybody to stop taking work.
    pub fn start(&self) {
        self.token.cancel();
    }

    /// Returns once somebody asked to stop.
    pub async fn started(&self) {
        self.token.cancelled().await;
    }

    /// A shutdown that also starts when this one does, but can be started on its own.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), grace: self.grace }
    }
}
