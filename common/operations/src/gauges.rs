//! Gauges that are read when a scraper comes, and rendered here instead of by the recorder: the recorder would keep the
//! last value of a gauge that can no longer be read, and a value that is hours old looks like a current one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// The gauges of one answer, by name.
#[derive(Debug, Default)]
pub(super) struct Gauges(BTreeMap<&'static str, Vec<(String, f64)>>);

impl Gauges {
    /// Adds a gauge. Labels are names of ours, so nothing in them needs escaping.
    pub(super) fn set(&mut self, name: &'static str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        self.0.entry(name).or_default().push((labels.join(","), value));
    }

    /// Adds a count.
    #[allow(clippy::cast_precision_loss, reason = "what is counted stays far below 2^52")]
    pub(super) fn count(&mut self, name: &'static str, labels: &[(&str, &str)], value: u64) {
        self.set(name, labels, value as f64);
    }

    /// Adds a length of time.
    pub(super) fn seconds(&mut self, name: &'static str, labels: &[(&str, &str)], value: Duration) {
        self.set(name, labels, value.as_secs_f64());
    }

    /// The gauges in Prometheus's text format.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        for (name, values) in &self.0 {
            let _infallible = writeln!(text, "# TYPE {name} gauge");
            for (labels, value) in values {
                let _infallible = writeln!(text, "{name}{{{labels}}} {value}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_of_one_name_stand_together() {
        let mut gauges = Gauges::default();
        gauges.count("b", &[("queue", "dead")], 7);
        gauges.seconds("a", &[("stage", "inbound"), ("partition", "0")], Duration::from_millis(1500));
        gauges.count("b", &[("queue", "delayed")], 0);
        let text = "# TYPE a gauge\na{stage=\"inbound\",partition=\"0\"} 1.5\n\
                    # TYPE b gauge\nb{queue=\"dead\"} 7\nb{queue=\"delayed\"} 0\n";
        assert_eq!(gauges.render(), text);
    }
}
