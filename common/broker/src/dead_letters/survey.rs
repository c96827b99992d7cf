//! Counts the dead letters that match a filter, and keeps a bounded number of them: the first in replay order.

use std::collections::BTreeMap;

use message::clock::Timestamp;
use message::failure::Failure;

use super::letter::Rank;
use super::{Filter, Letter, Walk};
use crate::Stage;

/// The key of the histogram.
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
    /// Matching letters of each kind.
    pub histogram: BTreeMap<Kind, u64>,
    /// How many of them cannot be read.
    pub unreadable: u64,
    /// The first matching letters, in replay order.
    pub first: Vec<T>,
}

impl<T> Survey<T> {
    /// How many letters match the filter.
    #[must_use]
    pub fn matched(&self) -> u64 {
        self.histogram.values().sum()
    }
}

/// Walks to the end, counts the letters that match `filter` as of `now`, and keeps the first `most` in replay order for
/// which `keep` returns a value. Memory grows with `most`, not with the number of dead letters.
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
