//! The cost of a message for a role, measured while the role works on a bounded number of messages.

use std::time::{Duration, Instant};

use crate::role::Role;
use crate::spending::RABBITMQ;
use crate::tally::Tally;
use crate::usage;

/// The longest wait for a count of messages; every measurement here ends sooner.
const DEADLINE: Duration = Duration::from_secs(120);

/// The cost of 1,000 messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// CPU seconds of the role.
    pub(crate) cpu_s: f64,
    /// CPU seconds of RabbitMQ, of all nodes that run.
    pub(crate) rabbitmq_cpu_s: f64,
    /// Seconds by the clock.
    pub(crate) wall_s: f64,
    /// The role's resident memory afterwards, in MiB.
    pub(crate) resident_mib: f64,
}

impl Cost {
    /// Waits until `tally` has counted `first` messages, then measures the cost of the next `counted` for `role`.
    ///
    /// # Errors
    /// When the role does not move that many messages within the deadline.
    pub(crate) async fn of(role: &Role, tally: &Tally, first: u64, counted: u64) -> anyhow::Result<Self> {
        tally.reach(first, DEADLINE).await?;
        let used_s = || anyhow::Ok((role.cpu_s()?, usage::program_cpu_s(RABBITMQ)?));
        let (from, before_s, began) = (tally.count(), used_s()?, Instant::now());
        tally.reach(first + counted, DEADLINE).await?;
        let (to, after_s, wall_s) = (tally.count(), used_s()?, began.elapsed().as_secs_f64());
        let thousands = f64::from(u32::try_from(to - from)?) / 1000.0;
        let [cpu_s, rabbitmq_cpu_s, wall_s] =
            [after_s.0 - before_s.0, after_s.1 - before_s.1, wall_s].map(|used_s| used_s / thousands);
        Ok(Self { cpu_s, rabbitmq_cpu_s, wall_s, resident_mib: role.resident_mib()? })
    }
}
