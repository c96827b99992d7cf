//! Counts parts or provider calls, each of which must come exactly once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::sync::watch;

/// The names that came so far. The task that notes them and the task that waits for them share it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    came: Mutex<HashMap<String, Instant>>,
    count: watch::Sender<u64>,
    repeated: watch::Sender<u64>,
}

impl Tally {
    /// Notes that `name` came at `now`.
    pub(crate) fn note(&self, name: &str, now: Instant) {
        let before = self.came.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), now);
        let counter = if before.is_none() { &self.count } else { &self.repeated };
        counter.send_modify(|count| *count += 1);
    }

    /// The number of names that came.
    pub(crate) fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// Returns once `count` names have come.
    ///
    /// # Errors
    /// When they do not come within `deadline`.
    pub(crate) async fn reach(&self, count: u64, deadline: Duration) -> anyhow::Result<()> {
        let mut counted = self.count.subscribe();
        let reached = tokio::time::timeout(deadline, counted.wait_for(|so_far| *so_far >= count)).await;
        reached.map(drop).with_context(|| format!("only {} of {count} came within {deadline:?}", self.count()))
    }

    /// The time at which the first name that matches `is_wanted` came.
    pub(crate) fn first(&self, is_wanted: impl Fn(&str) -> bool) -> Option<Instant> {
        let came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        came.iter().filter(|(name, _)| is_wanted(name)).map(|(_, at)| *at).min()
    }

    /// The number of repetitions.
    pub(crate) fn repeated(&self) -> u64 {
        *self.repeated.borrow()
    }

    /// Checks that each name came once, and `count` names in all.
    ///
    /// # Errors
    /// When a name came twice, or the number of names is not `count`.
    pub(crate) fn ensure_once(&self, count: u64) -> anyhow::Result<()> {
        let repeated = self.repeated();
        ensure!(repeated == 0, "{repeated} came twice");
        ensure!(self.count() == count, "{} came instead of {count}", self.count());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_missing_or_came_twice_is_found() {
        let (tally, began) = (Tally::default(), Instant::now());
        tally.note("a", began);
        tally.note("b", began + Duration::from_secs(1));
        tally.reach(2, Duration::from_secs(5)).await.unwrap();
        tally.reach(3, Duration::from_millis(1)).await.unwrap_err();
        tally.ensure_once(2).unwrap();
        tally.ensure_once(3).unwrap_err();
        assert_eq!(tally.first(|name| name != "a"), Some(began + Duration::from_secs(1)));
        tally.note("a", began);
        tally.ensure_once(2).unwrap_err();
    }
}
