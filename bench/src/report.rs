//! The report: one table as Markdown, and all data as JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::figure::{Figure, Target};
use crate::machine::Conditions;
use crate::sheet::Sheet;

/// The findings of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The conditions of the run.
    pub(crate) conditions: Conditions,
    /// One sheet for each scenario.
    pub(crate) sheets: Vec<Sheet>,
}

impl Report {
    /// Writes `bench.md` and `bench.json` into `directory`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let unwritable = || format!("cannot write to {}", directory.display());
        fs::create_dir_all(directory).with_context(unwritable)?;
        fs::write(directory.join("bench.md"), self.markdown()).with_context(unwritable)?;
        fs::write(directory.join("bench.json"), serde_json::to_vec_pretty(self)?).with_context(unwritable)
    }

    /// The report as Markdown: the targets first, then every scenario's figures.
    pub(crate) fn markdown(&self) -> String {
        let mut text = self.head();
        let judged =
            self.sheets.iter().flat_map(|sheet| sheet.figures.iter().map(move |figure| (sheet.heading(), figure)));
        text.push_str("\n| target | median | min to max | wanted | verdict |\n| --- | ---: | ---: | ---: | --- |\n");
        for (title, figure) in judged {
            if let (Some(target), Some(is_met)) = (figure.target, figure.is_met()) {
                let (wanted, verdict) = (bound(target), if is_met { "met" } else { "SHORT" });
                let (median, spread) = (shown(figure.median()), spread(figure));
                line(&mut text, &format!("| {title}: {} | {median} | {spread} | {wanted} | {verdict} |", figure.name));
            }
        }
        for sheet in &self.sheets {
            line(&mut text, &format!("\n### {}\n", sheet.heading()));
            line(&mut text, "| figure | median | min to max | unit |\n| --- | ---: | ---: | --- |");
            for figure in &sheet.figures {
                let (median, spread) = (shown(figure.median()), spread(figure));
                line(&mut text, &format!("| {} | {median} | {spread} | {} |", figure.name, figure.unit));
            }
            for remark in &sheet.remarks {
                line(&mut text, &format!("\n{remark}"));
            }
        }
        text
    }

    fn head(&self) -> String {
        let it = &self.conditions;
        format!(
            "Commit {}, {}, release profile, {} cores, RabbitMQ {} (quorum queues, publisher confirms), Redis {} ({}), \
             SQLite {} (WAL, synchronous=FULL). Medians of {} interleaved rounds of {} s each.\n",
            it.commit,
            if it.date.is_empty() { "no date given" } else { &it.date },
            it.cores,
            it.rabbitmq.join(" and "),
            it.redis,
            it.redis_durability,
            it.sqlite,
            it.rounds,
            it.seconds,
        )
    }
}

fn line(text: &mut String, line: &str) {
    // Writing to a `String` does not fail.
    writeln!(text, "{line}").ok();
}

fn spread(figure: &Figure) -> String {
    let (least, most) = figure.spread();
    format!("{} to {}", shown(least), shown(most))
}

fn bound(target: Target) -> String {
    match target {
        Target::AtLeast(bound) => format!("≥ {bound:.2}"),
        Target::AtMost(bound) => format!("≤ {bound:.2}"),
    }
}

/// The value with about three significant digits.
fn shown(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
