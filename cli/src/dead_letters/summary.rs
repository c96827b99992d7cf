//! Summaries of dead letters: one line each, and how many there are of each kind.

use std::collections::BTreeMap;

use broker::dead_letters::{Kind, Letter, Survey};
use message::clock::Timestamp;
use serde_json::{Value, json};

/// How much of a conversation's hash a table shows.
const HASH_SHOWN: usize = 8;

/// One dead letter in short. It holds no words and no whole phone number.
pub(super) struct Summary {
    id: String,
    stage: &'static str,
    reason: String,
    died_at: Option<Timestamp>,
    size_bytes: usize,
    message: Option<Message>,
}

struct Message {
    integration: String,
    customer: String,
    ours: String,
    conversation: String,
    accepted_at: Timestamp,
    attempts: usize,
    replays: usize,
}

impl Summary {
    /// Summarizes `letter`.
    pub(super) fn of(letter: &Letter) -> Self {
        let message = letter.envelope().map(|envelope| Message {
            integration: envelope.integration.to_string(),
            customer: envelope.conversation.customer.masked(),
            ours: envelope.conversation.ours.masked(),
            conversation: envelope.key().to_hex(),
            accepted_at: envelope.accepted_at,
            attempts: envelope.attempts.len(),
            replays: envelope.times_replayed(),
        });
        Self {
            id: letter.name(),
            stage: letter.stage.as_str(),
            reason: printable(&letter.reason),
            died_at: letter.died_at,
            size_bytes: letter.size_bytes,
            message,
        }
    }

    /// The summary as JSON; fields that an unreadable dead letter does not tell are null.
    pub(super) fn json(&self) -> Value {
        let message = self.message.as_ref();
        json!({
            "id": self.id,
            "stage": self.stage,
            "reason": self.reason,
            "died_at": self.died_at.map(|at| at.to_string()),
            "size_bytes": self.size_bytes,
            "integration": message.map(|m| &m.integration),
            "customer": message.map(|m| &m.customer),
            "ours": message.map(|m| &m.ours),
            "conversation": message.map(|m| &m.conversation),
            "accepted_at": message.map(|m| m.accepted_at.to_string()),
            "attempts": message.map(|m| m.attempts),
            "replays": message.map(|m| m.replays),
        })
    }

    fn cells(&self) -> [String; 9] {
        let message = self.message.as_ref();
        let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            self.id.clone(),
            self.stage.to_owned(),
            self.reason.clone(),
            known(self.died_at.map(seconds)),
            known(message.map(|m| m.integration.clone())),
            known(message.map(|m| m.customer.clone()).filter(|customer| !customer.is_empty())),
            known(message.map(|m| m.conversation.chars().take(HASH_SHOWN).collect())),
            known(message.map(|m| m.attempts.to_string())),
            known(message.map(|m| m.replays.to_string())),
        ]
    }
}

/// A table of what was found, and how many there are.
pub(super) fn table(found: &Survey<Summary>) -> String {
    let head = ["ID", "STAGE", "REASON", "DIED", "INTEGRATION", "CUSTOMER", "HASH", "ATTEMPTS", "REPLAYS"];
    let rows: Vec<_> = found.first.iter().map(Summary::cells).collect();
    let mut text = String::new();
    if !rows.is_empty() {
        let head = head.map(str::to_owned);
        let widths: [usize; 9] = std::array::from_fn(|column| {
            std::iter::once(&head).chain(&rows).map(|row| row[column].chars().count()).max().unwrap_or_default()
        });
        for row in std::iter::once(&head).chain(&rows) {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text.push('\n');
    }
    let shown = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    let more = if shown < found.matched() { format!(", {shown} shown") } else { String::new() };
    text + &histogram(&found.histogram) + &format!("{} in all{more}", found.matched())
}

/// How many there are of each kind, one line each, most frequent kind first.
pub(super) fn histogram(counts: &BTreeMap<Kind, u64>) -> String {
    let line = |(kind, count): (&Kind, &u64)| format!("{count:>8}  {} {}\n", kind.stage, printable(&kind.reason));
    most_first(counts).into_iter().map(line).collect()
}

/// The histogram as a JSON array, most frequent kind first.
pub(super) fn histogram_json(counts: &BTreeMap<Kind, u64>) -> Value {
    let row = |(kind, count): (&Kind, &u64)| json!({ "stage": kind.stage, "reason": kind.reason, "count": count });
    most_first(counts).into_iter().map(row).collect()
}

fn most_first(counts: &BTreeMap<Kind, u64>) -> Vec<(&Kind, &u64)> {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    counts
}

/// `at` without fractions of a second, as a table shows it.
fn seconds(at: Timestamp) -> String {
    let whole = Timestamp::from_second(at.as_second()).unwrap_or(at);
    whole.to_string()
}

/// `text` with each control character replaced by U+FFFD, so that foreign text cannot control the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
