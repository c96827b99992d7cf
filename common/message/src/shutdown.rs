//! Stopping in two steps: stop taking, then finish what is in flight within a grace period.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The stop signal for every task that must end with the process. Cheap to clone; one per process or test.
#[derive(Debug, Clone)]
pub struct Shutdown {
    token: CancellationToken,
    grace: Duration,
}

impl Shutdown {
    /// A shutdown that has not started yet. Once it starts, work in flight gets `grace`.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self { token: CancellationToken::new(), grace }
    }

    /// How long work in flight may go on after [`Shutdown::start`].
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Asks every task to stop taking work.
    pub fn start(&self) {
        self.token.cancel();
    }

    /// Returns once the shutdown has started.
    pub async fn started(&self) {
        self.token.cancelled().await;
    }

    /// A shutdown that also starts when this one does, but can be started on its own.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), grace: self.grace }
    }
}
