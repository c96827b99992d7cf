//! What a run did to its processes, and what that did to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use message::clock::{Clock, Timestamp};

/// Counts of one run. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Toll(Arc<Mutex<Counts>>);

/// The counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// `kill -9` at random moments.
    pub(super) kills: u32,
    /// Deaths at a named step.
    pub(super) step_kills: u32,
    /// SIGTERM.
    pub(super) terminations: u32,
    /// Everything else that was made to go wrong.
    pub(super) other_faults: u32,
    /// What processes did that they may not, in words.
    pub(super) misconduct: Vec<String>,
    /// The most resident memory of a process of each role, in KiB.
    pub(super) peak_kib: BTreeMap<&'static str, u64>,
    /// When something was broken.
    pub(super) struck_at: Vec<Timestamp>,
}

impl Toll {
    /// The counts, to be read or changed.
    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one thing that was broken just now.
    pub(super) fn strike(&self, count: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts();
        counts.struck_at.push(Clock::system().now());
        count(&mut counts);
    }

    /// Notes the most memory that process `pid` ever had resident.
    pub(super) fn weigh(&self, role: &'static str, pid: u32) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let Some(kib) = line.and_then(|line| line.split_whitespace().next()?.parse().ok()) else { return };
        let mut counts = self.counts();
        let peak = counts.peak_kib.entry(role).or_default();
        *peak = (*peak).max(kib);
    }
}
