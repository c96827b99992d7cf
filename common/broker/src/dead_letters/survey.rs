//! A walk that counts what a filter takes and keeps a bounded number of it: those whose turn comes first.

use std::collections::BTreeMap;

use message::clock::Timestamp;
use message::failure::Failure;

use super::letter::Rank;
use super::{Filter, Letter, Walk};
use crate::Stage;

/// What the histogram counts by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// The stage's name.
    pub stage: &'static str,
    /// The reason's name.
    pub reason: String,
}

/// What a walk found.
#[derive(Debug)]
pub struct Survey<T> {
    /// How many of each kind the filter took.
    pub histogram: BTreeMap<Kind, u64>,
    /// How many of them cannot be read.
    pub unreadable: u64,
    /// Those whose turn comes first, in the order in which they would be replayed.
    pub first: Vec<T>,
}

impl<T> Survey<T> {
    /// How many the filter took.
    #[must_use]
    pub fn matched(&self) -> u64 {
        self.histogram.values().sum()
    }
}

/// Walks to the end and keeps of what `filter` takes, as of `now`, the first `most` that `keep` makes something of.
/// Memory grows with `most`, not with how many dead letters there are.
///
/// # Errors
/// When the walk fails.
pub async fn survey<T>(
    walk: &mut dyn Walk,
    filter: &Filter,
    now: Timestamp,
    most: usize,
    keep: impl Fn(Letter) -> Option<T>,
) -> Result<Survey<T>, Failure> {
    let mut first: BTreeMap<Rank, T> = BTreeMap::new();
    let (mut histogram, mut unreadable) = (BTreeMap::new(), 0);
    while let Some(letter) = walk.next().await? {
        let letter = Letter::read(letter);
        if !filter.takes(&letter, now) {
            continue;
        }
        let kind = Kind { stage: Stage::as_str(letter.stage), reason: letter.reason.clone() };
        *histogram.entry(kind).or_default() += 1;
        unreadable += u64::from(letter.envelope().is_none());
        let rank = letter.rank();
        let has_room = first.len() < most || first.last_key_value().is_some_and(|(last, _)| rank < *last);
        if has_room && let Some(kept) = keep(letter) {
            first.insert(rank, kept);
            if first.len() > most {
                first.pop_last();
            }
        }
    }
    Ok(Survey { histogram, unreadable, first: first.into_values().collect() })
}
