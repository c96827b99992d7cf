//! A lane is a conversation's serial queue in this process: one message of a lane runs at a time, lanes run in parallel
//! and take turns, so a conversation with many messages waits behind the others only once per message.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// The lanes of one stage. Pure: it decides what may run, somebody else runs it.
#[derive(Debug)]
pub(super) struct Lanes<K, T> {
    lanes: HashMap<K, VecDeque<T>>,
    ready: VecDeque<K>,
    running: usize,
    held: usize,
    concurrency: usize,
}

impl<K: Copy + Eq + Hash, T> Lanes<K, T> {
    /// Lanes of which at most `concurrency` (at least 1) run at a time.
    pub(super) fn new(concurrency: usize) -> Self {
        Self { lanes: HashMap::new(), ready: VecDeque::new(), running: 0, held: 0, concurrency: concurrency.max(1) }
    }

    /// How many items are waiting or running.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Adds `item` at the end of lane `key`.
    pub(super) fn push(&mut self, key: K, item: T) {
        self.held += 1;
        self.lanes
            .entry(key)
            .or_insert_with(|| {
                self.ready.push_back(key);
                VecDeque::new()
            })
            .push_back(item);
    }

    /// The next item to run, if one may run now. Its lane stays closed until [`Lanes::finished`].
    pub(super) fn start_next(&mut self) -> Option<(K, T)> {
        if self.running >= self.concurrency {
            return None;
        }
        let key = self.ready.pop_front()?;
        let item = self.lanes.get_mut(&key)?.pop_front()?;
        self.running += 1;
        Some((key, item))
    }

    /// The running item of lane `key` is done: its next one gets in line.
    pub(super) fn finished(&mut self, key: K) {
        self.running -= 1;
        self.held -= 1;
        match self.lanes.get(&key) {
            Some(waiting) if !waiting.is_empty() => self.ready.push_back(key),
            _ => drop(self.lanes.remove(&key)),
        }
    }

    /// The running item of lane `key` was given back: nothing behind it may run, or it would overtake.
    pub(super) fn given_back(&mut self) {
        self.running -= 1;
        self.held -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever arrives and finishes in whatever order, a lane's items run one at a time and in order, no more run
        /// than may, and all of them run.
        #[test]
        fn items_of_a_lane_run_in_order_one_at_a_time(arrivals in prop::collection::vec(0_u8..6, 0..200), concurrency in 1_usize..5, choices in prop::collection::vec(any::<prop::sample::Index>(), 200)) {
            let mut lanes = Lanes::new(concurrency);
            for (number, key) in arrivals.iter().enumerate() {
                lanes.push(*key, number);
            }
            let mut running: Vec<(u8, usize)> = Vec::new();
            let mut last_started: HashMap<u8, usize> = HashMap::new();
            let mut done = 0;
            while lanes.held() > 0 {
                while let Some((key, number)) = lanes.start_next() {
                    prop_assert!(running.iter().all(|(other, _)| *other != key));
                    prop_assert!(last_started.insert(key, number).is_none_or(|before| before < number));
                    running.push((key, number));
                }
                prop_assert!(!running.is_empty() && running.len() <= concurrency);
                let (key, _) = running.swap_remove(choices[done].index(running.len()));
                lanes.finished(key);
                done += 1;
            }
            prop_assert_eq!(done, arrivals.len());
        }
    }

    #[test]
    fn a_noisy_lane_lets_the_others_take_turns() {
        let mut lanes = Lanes::new(1);
        for number in 0..3 {
            lanes.push('a', number);
        }
        lanes.push('b', 0);
        let mut order = Vec::new();
        while let Some((key, number)) = lanes.start_next() {
            order.push((key, number));
            lanes.finished(key);
        }
        assert_eq!(order, [('a', 0), ('b', 0), ('a', 1), ('a', 2)]);
    }

    #[test]
    fn nothing_runs_behind_an_item_that_was_given_back() {
        let mut lanes = Lanes::new(2);
        lanes.push('a', 0);
        lanes.push('a', 1);
        lanes.start_next();
        lanes.given_back();
        assert_eq!(lanes.start_next(), None);
    }
}
