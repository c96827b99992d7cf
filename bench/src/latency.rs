//! Latencies, kept in an `HdrHistogram` and reported in milliseconds.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest latency in µs that can be recorded: 60 s. A call that takes a minute has failed long before.
const LONGEST_US: u64 = 60_000_000;
/// The number of significant digits that are kept.
const DIGITS: u8 = 3;

/// Recorded latencies.
#[derive(Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// The longest time of the quickest half, of the quickest 99 % and of the quickest 99.9 %, and the maximum.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latencies {
    /// An empty histogram.
    ///
    /// # Errors
    /// When there is no memory for a histogram.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Histogram::new_with_max(LONGEST_US, DIGITS).map(Self).context("no histogram can be made")
    }

    /// Records a latency from `since`, when the work was due, until now.
    pub(crate) fn note(&mut self, since: Instant) {
        self.note_duration(since.elapsed());
    }

    /// Records a latency.
    pub(crate) fn note_duration(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(LONGEST_US);
        self.0.saturating_record(us.min(LONGEST_US));
    }

    /// Adds the latencies of `other`.
    ///
    /// # Errors
    /// Never, because all histograms have the same shape.
    pub(crate) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.0.add(&other.0).context("histograms of two shapes")
    }

    /// The number of recorded latencies.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The percentiles of the recorded latencies.
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
