//! Latencies, kept in an `HdrHistogram` and told in milliseconds.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// No latency is longer: whatever takes a minute has failed long before.
const LONGEST_US: u64 = 60_000_000;
/// Significant digits that are kept.
const DIGITS: u8 = 3;

/// Recorded latencies.
#[derive(Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// How long the quickest half, 99 % and 99.9 % took at most, and the slowest.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latencies {
    /// None yet.
    ///
    /// # Errors
    /// When there is no memory for a histogram.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Histogram::new_with_max(LONGEST_US, DIGITS).map(Self).context("no histogram can be made")
    }

    /// Notes what was due at `since` and is done now.
    pub(crate) fn note(&mut self, since: Instant) {
        self.note_duration(since.elapsed());
    }

    /// Notes what took so long.
    pub(crate) fn note_duration(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(LONGEST_US);
        self.0.saturating_record(us.min(LONGEST_US));
    }

    /// Adds what `other` noted.
    ///
    /// # Errors
    /// Never for histograms of one shape.
    pub(crate) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.0.add(&other.0).context("histograms of two shapes")
    }

    /// How many were noted.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// What came out.
    pub(crate) fn percentiles(&self) -> Percentiles {
        let ms = |us: u64| Duration::from_micros(us).as_secs_f64() * 1000.0;
        Percentiles {
            p50_ms: ms(self.0.value_at_quantile(0.5)),
            p99_ms: ms(self.0.value_at_quantile(0.99)),
            p999_ms: ms(self.0.value_at_quantile(0.999)),
            max_ms: ms(self.0.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_noted() {
        let mut all = Latencies::new().unwrap();
        let mut slow = Latencies::new().unwrap();
        for ms in 1..=990 {
            all.note_duration(Duration::from_millis(ms));
        }
        for ms in 991..=1000 {
            slow.note_duration(Duration::from_millis(ms));
        }
        all.add(&slow).unwrap();
        let told = all.percentiles();
        assert_eq!(all.count(), 1000);
        for (found_ms, expected_ms) in [(told.p50_ms, 500.0), (told.p99_ms, 990.0), (told.max_ms, 1000.0)] {
            assert!((found_ms - expected_ms).abs() <= 1.0, "{found_ms} instead of {expected_ms}");
        }
    }
}
