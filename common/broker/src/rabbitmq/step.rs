//! One request to the broker, with a deadline: a node that hangs, or has lost the others, never answers.

use std::time::Duration;

use message::failure::Failure;
use tokio::time::timeout;

use super::failure;

/// How long an answer may take. A cluster elects new leaders in about a second.
const DEADLINE: Duration = Duration::from_secs(5);

/// The answer to `asking`; `what` names the step that cannot be done without it.
pub(super) async fn step<T>(what: &str, asking: impl Future<Output = lapin::Result<T>>) -> Result<T, Failure> {
    match answer(what, asking).await? {
        Ok(answer) => Ok(answer),
        Err(error) => Err(failure::of_setup(what, &error)),
    }
}

/// The answer to `asking`, or the broker's refusal, for a caller that needs to see the refusal.
pub(super) async fn answer<T>(
    what: &str,
    asking: impl Future<Output = lapin::Result<T>>,
) -> Result<lapin::Result<T>, Failure> {
    timeout(DEADLINE, asking).await.map_err(|_| Failure::transient(format!("{what}: the broker does not answer")))
}
