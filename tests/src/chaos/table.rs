//! The table of faults and outcomes.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::judge::Findings;

/// The outcome of one scenario.
#[derive(Debug, Clone)]
pub struct Row {
    /// The scenario's name.
    pub scenario: &'static str,
    /// `embedded` or `servers`.
    pub backend: &'static str,
    /// The number of kills (`kill -9`) at random moments.
    pub kills: u32,
    /// The number of deaths at named steps.
    pub step_kills: u32,
    /// The number of SIGTERM signals.
    pub terminations: u32,
    /// The number of other faults.
    pub other_faults: u32,
    /// The number of accepted texts.
    pub accepted: u64,
    /// The number of texts that were refused or given up.
    pub refused: u64,
    /// The number of answers of 503: neither the broker nor the spool had room.
    pub turned_away: u64,
    /// The number of webhooks that were repeated although they were accepted.
    pub repeated: u64,
    /// The outcomes of the texts.
    pub findings: Findings,
    /// The number of dead letters.
    pub dead: u64,
    /// The longest time from a fault to the next outgoing text.
    pub recovery: Duration,
    /// The longest time without an outgoing text while customers texted.
    pub gap: Duration,
    /// The time from the first text to the last answer.
    pub last: Duration,
    /// The most resident memory of any process, in MiB.
    pub peak_mib: u64,
    /// The length of the scenario.
    pub took: Duration,
    /// The violations, in words.
    pub violations: Vec<String>,
    /// The directory with the logs, if it was kept.
    pub logs: Option<PathBuf>,
}

const HEAD: [&str; 21] = [
    "scenario",
    "backend",
    "kill -9",
    "at a step",
    "SIGTERM",
    "other faults",
    "texts",
    "503",
    "repeated",
    "answered",
    "dead",
    "refused",
    "lost",
    "twice",
    "out of order",
    "asked twice",
    "recovery s",
    "gap s",
    "last s",
    "peak MiB",
    "seconds",
];

/// The table as Markdown, with sums and with the violations.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| row.cells().to_vec()));
    lines.push(sums(&lines[1..]));
    let widths: Vec<usize> =
        (0..HEAD.len()).map(|at| lines.iter().map(|line| line[at].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        let wrong = rows.get(number.wrapping_sub(1)).is_some_and(|row| !row.violations.is_empty());
        let verdict = match number {
            0 => "verdict",
            _ if wrong => "VIOLATED",
            _ if number > rows.len() => "",
            _ => "kept",
        };
        writeln!(text, "| {} | {verdict} |", cells.join(" | ")).ok();
        if number == 0 {
            let rule: Vec<_> =
                widths.iter().map(|width| format!("{}:", "-".repeat(width.saturating_sub(1).max(1)))).collect();
            writeln!(text, "| {} | --- |", rule.join(" | ")).ok();
        }
    }
    for row in rows.iter().filter(|row| !row.violations.is_empty()) {
        writeln!(text, "\n{} ({}): {}", row.scenario, row.backend, row.violations.join("; ")).ok();
        if let Some(logs) = &row.logs {
            writeln!(text, "logs: {}", logs.display()).ok();
        }
    }
    text
}

/// Adds up the columns of counts. The other columns stay empty.
fn sums(lines: &[Vec<String>]) -> Vec<String> {
    let sum = |at: usize| lines.iter().filter_map(|line| line[at].parse::<u64>().ok()).sum::<u64>().to_string();
    (0..HEAD.len())
        .map(|at| match at {
            0 => "sum".to_owned(),
            2..=15 => sum(at),
            _ => String::new(),
        })
        .collect()
}

impl Row {
    fn cells(&self) -> [String; HEAD.len()] {
        let findings = &self.findings;
        [
            self.scenario.to_owned(),
            self.backend.to_owned(),
            self.kills.to_string(),
            self.step_kills.to_string(),
            self.terminations.to_string(),
            self.other_faults.to_string(),
            self.accepted.to_string(),
            self.turned_away.to_string(),
            self.repeated.to_string(),
            findings.answered.to_string(),
            self.dead.to_string(),
            self.refused.to_string(),
            findings.lost.to_string(),
            findings.twice.to_string(),
            findings.out_of_order.to_string(),
            findings.asked_twice.to_string(),
            format!("{:.1}", self.recovery.as_secs_f64()),
            format!("{:.1}", self.gap.as_secs_f64()),
            format!("{:.0}", self.last.as_secs_f64()),
            self.peak_mib.to_string(),
            format!("{:.0}", self.took.as_secs_f64()),
        ]
    }
}
