//! Which bytes of a segment are done with: published, or skipped as damaged. Messages may be published past others that
//! cannot be, so these bytes are not always the beginning of the segment.

use std::collections::BTreeMap;

/// Stretches of bytes, each start with its end. Adjacent ones are merged.
#[derive(Debug, Default)]
pub(super) struct Done {
    stretches: BTreeMap<u64, u64>,
    /// Their total length in bytes.
    bytes: u64,
}

impl Done {
    /// Marks the bytes from `from` to `to` as done. No byte may be marked twice.
    pub(super) fn add(&mut self, mut from: u64, mut to: u64) {
        if from >= to {
            return;
        }
        self.bytes += to - from;
        if let Some((start, _)) = self.stretches.range(..from).next_back().filter(|(_, end)| **end == from) {
            from = *start;
        }
        if let Some(end) = self.stretches.remove(&to) {
            to = end;
        }
        self.stretches.insert(from, to);
    }

    /// The offset of the first byte, at or behind `at`, that is not done with.
    pub(super) fn next(&self, at: u64) -> u64 {
        let before = self.stretches.range(..=at).next_back();
        before.map_or(at, |(_, end)| at.max(*end))
    }

    /// How many bytes are done with.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_not_done_is_found_and_nothing_else(order in Just((0..40_u64).collect::<Vec<_>>()).prop_shuffle(), count in 0_usize..=40) {
            let mut done = Done::default();
            let told = &order[..count];
            for place in told {
                done.add(place * 10, place * 10 + 10);
            }
            for at in 0..400 {
                let expected = (at..).find(|byte| !told.contains(&(byte / 10))).unwrap();
                prop_assert_eq!(done.next(at), expected);
            }
            prop_assert_eq!(done.bytes(), 10 * count as u64);
            let touching = (1..40).filter(|place| told.contains(place) && told.contains(&(place - 1))).count();
            prop_assert_eq!(done.stretches.len(), count - touching);
        }
    }
}
