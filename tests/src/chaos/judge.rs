//! The judge: it determines the outcome of every accepted text from the calls that the provider got.

use std::collections::HashMap;
use std::time::Duration;

use broker::Depths;
use message::clock::Timestamp;
use simulator::{Message, Simulator};

use super::site::FAILURE_MESSAGE;
use super::toll::Counts;
use super::traffic::{customer, number_of};

/// The most resident memory that a process may ever have, in KiB.
const MOST_RESIDENT_KIB: u64 = 200 * 1024;

/// The outcomes of the texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Accepted texts that were answered.
    pub answered: u64,
    /// Accepted texts whose customers were told that there is no answer; their turns are dead letters.
    pub failed: u64,
    /// Accepted texts without an answer and without a failure message.
    pub lost: u64,
    /// Answers that went out more than once.
    pub twice: u64,
    /// Answers that came after the answer to a later text of their conversation.
    pub out_of_order: u64,
    /// Turns that the assistant saw more than once: the declared window.
    pub asked_twice: u64,
}

impl Findings {
    /// Compares the accepted texts of each conversation with the texts that went out.
    pub(super) fn of(simulator: &Simulator, accepted: &[Vec<usize>]) -> Self {
        let mut findings = Self::default();
        for (conversation, texts) in accepted.iter().enumerate() {
            findings.add(conversation, texts, &simulator.phone().replies(&customer(conversation)));
        }
        let mut asked: HashMap<String, u64> = HashMap::new();
        for turn in simulator.assistant().turns() {
            *asked.entry(turn.text).or_default() += 1;
        }
        findings.asked_twice = asked.values().map(|times| times - 1).sum();
        findings
    }

    fn add(&mut self, conversation: usize, texts: &[usize], replies: &[Message]) {
        let mut heard: HashMap<usize, u64> = HashMap::new();
        let (mut latest, mut failed) = (None, 0);
        for reply in replies {
            match number_of(conversation, &reply.body) {
                Some(number) => {
                    let times = heard.entry(number).or_default();
                    *times += 1;
                    self.twice += u64::from(*times > 1);
                    self.out_of_order += u64::from(*times == 1 && latest.is_some_and(|latest| number < latest));
                    latest = latest.max(Some(number));
                }
                None if reply.body == FAILURE_MESSAGE => failed += 1,
                None => self.twice += 1,
            }
        }
        let answered = texts.iter().filter(|number| heard.contains_key(number)).count() as u64;
        let unanswered = texts.len() as u64 - answered;
        self.answered += answered;
        self.failed += failed;
        // With more failure messages than unanswered texts, a customer was told twice.
        self.twice += failed.saturating_sub(unanswered);
        self.lost += unanswered.saturating_sub(failed);
    }

    /// Whether every accepted text has its outcome.
    pub(super) fn are_complete(&self) -> bool {
        self.lost == 0
    }
}

/// The limits for a scenario, and its counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Law {
    /// Whether customers may be told that there is no answer.
    pub(super) may_fail: bool,
    /// Whether turns may be asked twice.
    pub(super) may_ask_twice: bool,
    /// The number of texts that the customers should have sent.
    pub(super) texts: u64,
    /// The number of texts that were accepted.
    pub(super) accepted: u64,
    /// The longest time without an outgoing text while customers texted, and its start.
    pub(super) gap: (Duration, Timestamp),
    /// The limit for that time.
    pub(super) longest_gap: Option<Duration>,
    /// The number of answers of 503.
    pub(super) turned_away: u64,
    /// Whether there must be such answers. Without one, the scenario has tested nothing.
    pub(super) must_turn_away: bool,
}

/// All violations, in words; empty when there are none.
pub(super) fn violations(law: Law, findings: &Findings, depths: &Depths, counts: &Counts) -> Vec<String> {
    let mut found = counts.misconduct.clone();
    let mut check = |is_wrong: bool, what: String| {
        if is_wrong {
            found.push(what);
        }
    };
    check(law.accepted < law.texts, format!("{} texts were refused or given up", law.texts - law.accepted));
    check(findings.lost > 0, format!("{} texts are lost", findings.lost));
    check(findings.twice > 0, format!("{} answers went out twice", findings.twice));
    check(findings.out_of_order > 0, format!("{} answers came out of order", findings.out_of_order));
    check(
        !law.may_ask_twice && findings.asked_twice > 0,
        format!("{} turns were asked twice without a reason", findings.asked_twice),
    );
    check(!law.may_fail && findings.failed > 0, format!("{} customers got no answer", findings.failed));
    // A dead letter may be written twice, but must not be missing.
    check(
        depths.dead < findings.failed || (findings.failed == 0 && depths.dead > 0),
        format!("{} dead letters for {} failed turns", depths.dead, findings.failed),
    );
    check(
        law.longest_gap.is_some_and(|most| law.gap.0 > most),
        format!("nothing went out for {:.1} s from {} on", law.gap.0.as_secs_f64(), law.gap.1),
    );
    check(law.must_turn_away && law.turned_away == 0, "no text met a full disk".to_owned());
    let left = depths.inbound + depths.outbound + depths.receipts + depths.delayed;
    check(left > 0, format!("the queues are not empty: {depths:?}"));
    for (role, kib) in &counts.peak_kib {
        check(*kib > MOST_RESIDENT_KIB, format!("{role} had {} MiB resident", kib / 1024));
    }
    found
}

/// The longest time from a fault to the next outgoing text.
pub(super) fn longest_recovery(struck_at: &[Timestamp], sent: &[Message]) -> Duration {
    let times: Vec<Timestamp> = sent.iter().map(|message| message.accepted_at).collect();
    let gap = |struck: &Timestamp| {
        let next = times.get(times.partition_point(|sent| sent <= struck))?;
        Duration::try_from(next.duration_since(*struck)).ok()
    };
    struck_at.iter().filter_map(gap).max().unwrap_or_default()
}

/// The time from `begun_at` to the last outgoing text.
pub(super) fn last(sent: &[Message], begun_at: Timestamp) -> Duration {
    let last = sent.iter().map(|message| message.accepted_at).max();
    last.and_then(|last| Duration::try_from(last.duration_since(begun_at)).ok()).unwrap_or_default()
}

/// The longest time between two consecutive outgoing texts while customers texted, and its start.
pub(super) fn longest_gap(sent: &[Message], texted_until: Timestamp) -> (Duration, Timestamp) {
    let mut times: Vec<Timestamp> = sent.iter().map(|message| message.accepted_at).collect();
    times.retain(|sent| *sent < texted_until);
    let gaps =
        times.windows(2).filter_map(|pair| Some((Duration::try_from(pair[1].duration_since(pair[0])).ok()?, pair[0])));
    gaps.max().unwrap_or((Duration::ZERO, texted_until))
}
