//! The counts of a run: the faults, and the processes' reactions to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use message::clock::{Clock, Timestamp};

/// The counts of one run. Cheap to clone; clones share the counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Toll(Arc<Mutex<Counts>>);

/// The counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// The number of kills (`kill -9`) at random moments.
    pub(super) kills: u32,
    /// The number of deaths at a named step.
    pub(super) step_kills: u32,
    /// The number of SIGTERM signals.
    pub(super) terminations: u32,
    /// The number of other faults.
    pub(super) other_faults: u32,
    /// Violations by the processes themselves, in words.
    pub(super) misconduct: Vec<String>,
    /// The most resident memory of a process of each role, in KiB.
    pub(super) peak_kib: BTreeMap<&'static str, u64>,
    /// The times of the faults.
    pub(super) struck_at: Vec<Timestamp>,
}

impl Toll {
    /// The counts, for reading and changing.
    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies `count` to the counts, and records the present time as that of a fault.
    pub(super) fn strike(&self, count: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts();
        counts.struck_at.push(Clock::system().now());
        count(&mut counts);
    }

    /// Records the peak of the resident memory of process `pid`.
    pub(super) fn weigh(&self, role: &'static str, pid: u32) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let Some(kib) = line.and_then(|line| line.split_whitespace().next()?.parse().ok()) else { return };
        let mut counts = self.counts();
        let peak = counts.peak_kib.entry(role).or_default();
        *peak = (*peak).max(kib);
    }
}
