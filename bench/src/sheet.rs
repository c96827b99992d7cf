//! The findings of one scenario: figures that get one value each round, and remarks.

use anyhow::Context as _;
use serde::Serialize;

use crate::figure::{Figure, Target};
use crate::latency::Percentiles;

/// A scenario's figures, in the order in which they first appeared.
#[derive(Debug, Serialize)]
pub(crate) struct Sheet {
    /// The scenario's name.
    pub(crate) title: &'static str,
    /// The version of RabbitMQ, if the scenario was measured on one.
    pub(crate) rabbitmq: Option<String>,
    /// The measured figures.
    pub(crate) figures: Vec<Figure>,
    /// Facts that a reader needs to understand the figures.
    pub(crate) remarks: Vec<String>,
}

impl Sheet {
    /// An empty sheet.
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, rabbitmq: None, figures: Vec::new(), remarks: Vec::new() }
    }

    /// The scenario, and its version of RabbitMQ.
    pub(crate) fn heading(&self) -> String {
        match &self.rabbitmq {
            Some(version) => format!("{} on RabbitMQ {version}", self.title),
            None => self.title.to_owned(),
        }
    }

    /// Adds this round's value of the figure `name`.
    pub(crate) fn note(&mut self, name: impl Into<String>, unit: &'static str, value: f64) {
        let name = name.into();
        match self.figures.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.values.push(value),
            None => self.figures.push(Figure { name, unit, values: vec![value], target: None }),
        }
    }

    /// Adds this round's percentiles of the latency `name`.
    pub(crate) fn note_latency(&mut self, name: &str, latency: &Percentiles) {
        for (part, value_ms) in [("p50", latency.p50_ms), ("p99", latency.p99_ms), ("p99.9", latency.p999_ms)] {
            self.note(format!("{name} {part}"), "ms", value_ms);
        }
    }

    /// Adds a remark.
    pub(crate) fn remark(&mut self, remark: impl Into<String>) {
        self.remarks.push(remark.into());
    }

    /// Adds the ratio of two figures, round by round.
    ///
    /// # Errors
    /// When a figure was not measured in every round, or is zero.
    pub(crate) fn ratio(&mut self, ours: &str, floor: &str, target: Option<Target>) -> anyhow::Result<()> {
        self.ratio_as(format!("{ours} / {floor}"), ours, floor, target)
    }

    /// The same with a name of its own, shorter than the two names together.
    ///
    /// # Errors
    /// As [`Sheet::ratio`].
    pub(crate) fn ratio_as(
        &mut self,
        name: String,
        ours: &str,
        floor: &str,
        target: Option<Target>,
    ) -> anyhow::Result<()> {
        let (above, below) = (self.find(ours)?, self.find(floor)?);
        anyhow::ensure!(above.values.len() == below.values.len(), "{ours} and {floor} were not measured equally often");
        let values: Vec<_> = above.values.iter().zip(&below.values).map(|(ours, floor)| ours / floor).collect();
        anyhow::ensure!(
            values.iter().all(|value| value.is_normal()),
            "{ours} / {floor} makes no sense: measure longer"
        );
        self.figures.push(Figure { name, unit: "", values, target });
        Ok(())
    }

    /// Sets the target of the figure `name`.
    ///
    /// # Errors
    /// When it was not measured.
    pub(crate) fn aim(&mut self, name: &str, target: Target) -> anyhow::Result<()> {
        let figure = self.figures.iter_mut().find(|figure| figure.name == name);
        figure.with_context(|| format!("{name} was not measured"))?.target = Some(target);
        Ok(())
    }

    /// The figure `name`.
    ///
    /// # Errors
    /// When it was not measured.
    pub(crate) fn find(&self, name: &str) -> anyhow::Result<&Figure> {
        self.figures.iter().find(|figure| figure.name == name).with_context(|| format!("{name} was not measured"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut sheet = Sheet::new("test");
        for (ours, floor) in [(1.0, 2.0), (8.0, 10.0), (3.0, 4.0)] {
            sheet.note("ours", "1/s", ours);
            sheet.note("floor", "1/s", floor);
        }
        sheet.ratio("ours", "floor", None).unwrap();
        assert_eq!(sheet.find("ours / floor").unwrap().values, [0.5, 0.8, 0.75]);
        sheet.note("floor", "1/s", 1.0);
        sheet.ratio("ours", "floor", None).unwrap_err();
        sheet.ratio("ours", "nothing", None).unwrap_err();
    }
}
