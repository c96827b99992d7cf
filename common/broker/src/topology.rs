//! Every queue and exchange name, in one place. ARCHITECTURE.md lists them too, and the tidy test compares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The delays a parked message can take on RabbitMQ, shortest first: one queue each, because a queue with mixed delays
/// releases only from its head.
pub const DELAY_STEPS: [(&str, Duration); 5] = [
    ("5s", Duration::from_secs(5)),
    ("30s", Duration::from_secs(30)),
    ("2m", Duration::from_secs(120)),
    ("10m", Duration::from_secs(600)),
    ("1h", Duration::from_secs(3600)),
];

/// The name and delay of the RabbitMQ queue for a message that is to wait for `delay`: the longest step that is not
/// longer, or the shortest one. The message comes back early rather than late, and is parked again for the rest.
#[must_use]
pub fn delay_step(delay: Duration) -> (&'static str, Duration) {
    let [shortest, ..] = DELAY_STEPS;
    DELAY_STEPS.into_iter().rfind(|(_, step)| *step <= delay).unwrap_or(shortest)
}

/// How many partitions each ordered stage has where neither the configuration nor the broker says otherwise: as few as
/// keep some workers busy, because each adds a little to every message's latency.
pub const DEFAULT_PARTITIONS: u16 = 16;

/// Length limit of a queue, in messages. A full queue refuses more, so that neither memory nor disk fills up while a
/// service is down.
pub const MAX_LENGTH: u32 = 1_000_000;

/// A step of the pipeline that has queues of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Texts from customers, on their way to a worker.
    Inbound,
    /// Parts of replies, on their way to a sender.
    Outbound,
    /// Delivery receipts, on their way to a worker.
    Receipts,
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; 3] = [Self::Inbound, Self::Outbound, Self::Receipts];

    /// The stage's name in queue names, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Receipts => "receipts",
        }
    }
}

/// The names of one installation's queues.
#[derive(Debug, Clone)]
pub struct Topology {
    prefix: String,
    /// The partition count of each ordered stage, shared by all clones.
    partitions: Arc<AtomicU16>,
    /// Whether an operator chose the partition count, so that another one in use is an obstacle.
    is_chosen: bool,
    /// How many messages each partition takes before its publishers are refused, at least 1.
    pub max_length: u32,
}

impl Topology {
    /// The names that start with `prefix`, with `partitions` (at least 1) queues for each ordered stage.
    pub fn new(prefix: impl Into<String>, partitions: u16) -> Self {
        let partitions = Arc::new(AtomicU16::new(partitions.max(1)));
        Self { prefix: prefix.into(), partitions, is_chosen: true, max_length: MAX_LENGTH }
    }

    /// The same with [`DEFAULT_PARTITIONS`], until [`Topology::adopt`] takes over the partition count in use.
    pub fn with_default_partitions(prefix: impl Into<String>) -> Self {
        Self { is_chosen: false, ..Self::new(prefix, DEFAULT_PARTITIONS) }
    }

    /// How many partitions each ordered stage has. Unless an operator chose the count, it may change with each connect.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.partitions.load(Ordering::Relaxed)
    }

    /// Takes over `number`, the partition count in use, for all clones. Returns `false`, and changes nothing, if an
    /// operator chose the count.
    #[must_use]
    pub fn adopt(&self, number: u16) -> bool {
        if !self.is_chosen {
            self.partitions.store(number.max(1), Ordering::Relaxed);
        }
        !self.is_chosen
    }

    /// The same names with another partition count, which no clone shares.
    #[must_use]
    pub fn before(&self, partitions: u16) -> Self {
        Self { partitions: Arc::new(AtomicU16::new(partitions)), ..self.clone() }
    }

    /// The same, but a partition takes only `max_length` (at least 1) messages, not a million.
    #[must_use]
    pub fn with_max_length(self, max_length: u32) -> Self {
        Self { max_length: max_length.max(1), ..self }
    }

    /// How many partitions `stage` has: receipts need no order and have one queue.
    #[must_use]
    pub fn partitions_of(&self, stage: Stage) -> u16 {
        match stage {
            Stage::Inbound | Stage::Outbound => self.partitions(),
            Stage::Receipts => 1,
        }
    }

    /// The direct exchange that takes a stage's messages by partition number.
    #[must_use]
    pub fn exchange(&self, stage: Stage) -> String {
        format!("{}.{}", self.prefix, stage.as_str())
    }

    /// The queue of one partition of a stage.
    #[must_use]
    pub fn queue(&self, stage: Stage, partition: u16) -> String {
        match stage {
            Stage::Inbound | Stage::Outbound => format!("{}.{}.{partition}", self.prefix, stage.as_str()),
            Stage::Receipts => format!("{}.receipts", self.prefix),
        }
    }

    /// The queue of messages of `stage` parked for `step`, and the fanout exchange of the same name that keeps their
    /// routing key.
    #[must_use]
    pub fn delay(&self, stage: Stage, step: &str) -> String {
        format!("{}.delay.{}.{step}", self.prefix, stage.as_str())
    }

    /// The direct exchange of the dead letters; the routing key is [`Topology::dead_key`].
    #[must_use]
    pub fn dead_exchange(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// The routing key of a stage's dead letters: receipts share that of inbound messages.
    #[must_use]
    pub fn dead_key(stage: Stage) -> &'static str {
        match stage {
            Stage::Inbound | Stage::Receipts => "inbound",
            Stage::Outbound => "outbound",
        }
    }

    /// The queue of a stage's dead letters.
    #[must_use]
    pub fn dead_queue(&self, stage: Stage) -> String {
        format!("{}.dead.{}", self.prefix, Self::dead_key(stage))
    }

    /// Exclusive queue used as a lock: one dead-letter walk at a time.
    #[must_use]
    pub fn dead_lock(&self) -> String {
        format!("{}.dead.lock", self.prefix)
    }

    /// The queue that `exchange` routes `key` to, and the kind of its messages, as metrics name it.
    #[must_use]
    pub fn queue_at(&self, exchange: &str, key: &str) -> (String, &'static str) {
        let stage = Stage::ALL.into_iter().find(|stage| exchange == self.exchange(*stage));
        match stage {
            Some(stage) => (self.queue(stage, key.parse().unwrap_or_default()), stage.as_str()),
            None if exchange == self.dead_exchange() => (format!("{exchange}.{key}"), "dead"),
            None if exchange.is_empty() => (key.to_owned(), "probe"),
            None => (exchange.to_owned(), "delayed"),
        }
    }

    /// The queue that readiness checks publish to, bounded to one message.
    #[must_use]
    pub fn probe(&self) -> String {
        format!("{}.probe", self.prefix)
    }

    /// The queue, always empty, whose length limit is the partition count in use.
    #[must_use]
    pub fn in_force(&self) -> String {
        format!("{}.partitions", self.prefix)
    }

    /// Exclusive queue used as a lock: one change of the partition count at a time.
    #[must_use]
    pub fn in_force_lock(&self) -> String {
        format!("{}.partitions.lock", self.prefix)
    }
}
