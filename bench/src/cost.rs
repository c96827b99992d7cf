//! What a role needs for each message, looked at while it works on a bounded number of them.

use std::time::{Duration, Instant};

use crate::role::Role;
use crate::tally::Tally;

/// Nothing here takes longer.
const DEADLINE: Duration = Duration::from_secs(120);

/// What 1,000 messages took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// CPU seconds of the role.
    pub(crate) cpu_s: f64,
    /// Seconds by the clock.
    pub(crate) wall_s: f64,
    /// The role's resident memory afterwards, in MiB.
    pub(crate) resident_mib: f64,
}

impl Cost {
    /// Waits until `tally` has counted `first` messages, and then looks at what `role` needs for the next `counted`.
    ///
    /// # Errors
    /// When it does not move as many.
    pub(crate) async fn of(role: &Role, tally: &Tally, first: u64, counted: u64) -> anyhow::Result<Self> {
        tally.reach(first, DEADLINE).await?;
        let (from, before_s, began) = (tally.count(), role.cpu_s()?, Instant::now());
        tally.reach(first + counted, DEADLINE).await?;
        let (to, after_s, wall) = (tally.count(), role.cpu_s()?, began.elapsed());
        let thousands = f64::from(u32::try_from(to - from)?) / 1000.0;
        let resident_mib = role.resident_mib()?;
        Ok(Self { cpu_s: (after_s - before_s) / thousands, wall_s: wall.as_secs_f64() / thousands, resident_mib })
    }
}
