//! The ports that a service is handed.

use std::sync::Arc;

use broker::Broker;
use message::clock::Clock;
use store::Store;

use super::heartbeats::Rhythm;
use super::progress::StageProgress;

/// The ports that the services share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ports {
    /// The queues.
    pub broker: Arc<dyn Broker>,
    /// Sessions and ledgers.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Clock,
    /// How far each stage that runs in this process got.
    pub progress: StageProgress,
    /// How often heartbeats go through the partitions; `None` for never.
    pub heartbeats: Option<Rhythm>,
}
