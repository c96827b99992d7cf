//! Counts the work that gets through: its rate and its latencies, both without the warm-up, in which connections are
//! fresh.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::latency::{Latencies, Percentiles};

/// The warm-up is the run's length divided by this. It only fills the pipeline, so it is left out. The rate leaves out
/// the emptying at the end, too.
const WARMING: f64 = 4.0;

/// Counts completions.
#[derive(Debug)]
pub(crate) struct Meter {
    from: Instant,
    until: Instant,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    total: u64,
    in_time: u32,
    latencies: Latencies,
}

impl Meter {
    /// A meter for a run of `seconds` that begins now.
    ///
    /// # Errors
    /// When there is no memory for a histogram.
    pub(crate) fn start(seconds: f64) -> anyhow::Result<Self> {
        let began = Instant::now();
        let (from, until) = (Duration::from_secs_f64(seconds / WARMING), Duration::from_secs_f64(seconds));
        let counts = Mutex::new(Counts { total: 0, in_time: 0, latencies: Latencies::new()? });
        Ok(Self { from: began + from, until: began + until, counts })
    }

    /// Notes that work due at `due` was done at `now`.
    pub(crate) fn note(&self, due: Instant, now: Instant) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total += 1;
        if now >= self.from {
            counts.latencies.note_duration(now.saturating_duration_since(due));
        }
        if now >= self.from && now < self.until {
            counts.in_time += 1;
        }
    }

    /// The number of completions in all, the rate a second between the warm-up and the end, and the latencies since the
    /// warm-up.
    pub(crate) fn read(&self) -> (u64, f64, Percentiles) {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let span = self.until.duration_since(self.from);
        (counts.total, f64::from(counts.in_time) / span.as_secs_f64(), counts.latencies.percentiles())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_middle() {
        let meter = Meter::start(4.0).unwrap();
        let began = meter.from - Duration::from_secs(1);
        for tenth in 0..60 {
            let now = began + Duration::from_millis(tenth * 100);
            meter.note(now - Duration::from_millis(7), now);
        }
        let (count, rate_per_s, latency) = meter.read();
        assert_eq!((count, rate_per_s), (60, 10.0));
        assert!((latency.p50_ms - 7.0).abs() < 0.1);
    }
}
