//! The one loop that settles.

use std::sync::Arc;

use super::{Broker, Handler, Stage};
use crate::clock::Clock;
use crate::shutdown::Shutdown;

/// How a stage is worked on.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// How many messages are handled at a time, each of another conversation; at least 1.
    pub concurrency: usize,
}

/// Hands the messages of `stage` to `handler`, one at a time for each conversation, until `shutdown`.
pub async fn run(
    _broker: Arc<dyn Broker>,
    _stage: Stage,
    _handler: Arc<dyn Handler>,
    _options: RunOptions,
    _clock: Clock,
    _shutdown: Shutdown,
) {
}
