//! One question to the broker, with a deadline: a node that hangs, or has lost the others, answers nothing at all.

use std::time::Duration;

use message::failure::Failure;
use tokio::time::timeout;

use super::failure;

/// How long an answer may take. A cluster elects new leaders in about a second.
const DEADLINE: Duration = Duration::from_secs(5);

/// The answer to `asking`; `what` says what could not be done without it.
pub(super) async fn step<T>(what: &str, asking: impl Future<Output = lapin::Result<T>>) -> Result<T, Failure> {
    match answer(what, asking).await? {
        Ok(answer) => Ok(answer),
        Err(error) => Err(failure::of_setup(what, &error)),
    }
}

/// The answer or refusal to `asking`, where a refusal says something too.
pub(super) async fn answer<T>(
    what: &str,
    asking: impl Future<Output = lapin::Result<T>>,
) -> Result<lapin::Result<T>, Failure> {
    timeout(DEADLINE, asking).await.map_err(|_| Failure::transient(format!("{what}: the broker does not answer")))
}
