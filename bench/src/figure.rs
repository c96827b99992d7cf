//! A named figure: its values of all rounds, their median and spread, and its target.

use serde::Serialize;

/// The target of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) enum Target {
    /// This much or more.
    AtLeast(f64),
    /// This much or less.
    AtMost(f64),
}

/// A figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    /// The name of the measured quantity.
    pub(crate) name: String,
    /// The unit; empty for a ratio.
    pub(crate) unit: &'static str,
    /// One value for each round.
    pub(crate) values: Vec<f64>,
    /// The target of the median, if there is one.
    pub(crate) target: Option<Target>,
}

impl Figure {
    /// The middle value, or the mean of the two middle ones; NaN without values.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        if sorted.len().is_multiple_of(2) { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 } else { at(middle) }
    }

    /// The least and the greatest value; NaN without values.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let sorted = self.sorted();
        let end = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
        (end(sorted.first()), end(sorted.last()))
    }

    /// Whether the median meets the target; `None` without a target.
    pub(crate) fn is_met(&self) -> Option<bool> {
        Some(match self.target? {
            Target::AtLeast(bound) => self.median() >= bound,
            Target::AtMost(bound) => self.median() <= bound,
        })
    }

    fn sorted(&self) -> Vec<f64> {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(values: &[f64], target: Target) -> Figure {
        Figure { name: "a".to_owned(), unit: "", values: values.to_vec(), target: Some(target) }
    }

    #[test]
    fn the_median_is_judged_and_not_the_best() {
        let odd = figure(&[0.9, 0.5, 0.8], Target::AtLeast(0.85));
        assert_eq!((odd.median(), odd.spread(), odd.is_met()), (0.8, (0.5, 0.9), Some(false)));
        let even = figure(&[2.0, 1.0, 4.0, 3.0], Target::AtMost(2.5));
        assert_eq!((even.median(), even.is_met()), (2.5, Some(true)));
        let none = figure(&[], Target::AtMost(1.0));
        assert_eq!(none.is_met(), Some(false), "what was not measured is not met");
    }
}
