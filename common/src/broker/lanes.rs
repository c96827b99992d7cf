//! A lane is a conversation's serial queue in this process: one turn of a lane runs at a time, lanes run in parallel
//! and take turns, so a conversation with many messages waits behind the others only once per turn.
//!
//! Where a stage joins bursts, a lane rests until no message has come for a while, then all that came run as one.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// No burst is longer: a customer who never stops typing still gets an answer.
const BURST_LIMIT: usize = 20;
/// A burst rests for at most this many of its windows.
const LONGEST_REST: u32 = 5;

/// The lanes of one stage. Pure: it decides what may run, somebody else runs it.
#[derive(Debug)]
pub(super) struct Lanes<K, T> {
    lanes: HashMap<K, Lane<T>>,
    ready: VecDeque<K>,
    resting: BTreeSet<(Instant, K)>,
    running: usize,
    held: usize,
    concurrency: usize,
}

#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<T>,
    /// How long the last arrival waits for company; zero joins nothing.
    window: Duration,
    /// When the lane has rested enough, and when it has in any case.
    due: Instant,
    due_at_last: Instant,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Resting,
    Ready,
    Running,
}

impl<K: Copy + Eq + Hash + Ord, T> Lanes<K, T> {
    /// Lanes of which at most `concurrency` (at least 1) run at a time.
    pub(super) fn new(concurrency: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            resting: BTreeSet::new(),
            running: 0,
            held: 0,
            concurrency: concurrency.max(1),
        }
    }

    /// How many items are waiting or running.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Adds `item` at the end of lane `key`, to wait for company for `window`.
    pub(super) fn push(&mut self, key: K, item: T, window: Duration, now: Instant) {
        self.held += 1;
        let lane = self.lanes.entry(key).or_insert_with(|| {
            let place = if window.is_zero() { Place::Ready } else { Place::Resting };
            match place {
                Place::Ready => self.ready.push_back(key),
                Place::Resting | Place::Running => drop(self.resting.insert((now + window, key))),
            }
            Lane { waiting: VecDeque::new(), window, due: now + window, due_at_last: now, place }
        });
        if lane.waiting.is_empty() {
            lane.due_at_last = now + window * LONGEST_REST;
        }
        lane.waiting.push_back(item);
        lane.window = window;
        let is_full = lane.waiting.len() >= BURST_LIMIT;
        let due = if is_full { now } else { (now + window).min(lane.due_at_last) };
        if lane.place == Place::Resting {
            self.resting.remove(&(lane.due, key));
            self.resting.insert((due, key));
        }
        lane.due = due;
    }

    /// When the next resting lane will have rested enough.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.resting.first().map(|(due, _)| *due)
    }

    /// The next items to run as one, if any may run now. Their lane stays closed until [`Lanes::finished`].
    pub(super) fn start_next(&mut self, now: Instant) -> Option<(K, Vec<T>)> {
        while let Some((due, key)) = self.resting.first().copied().filter(|(due, _)| *due <= now) {
            self.resting.remove(&(due, key));
            self.make_ready(key);
        }
        if self.running >= self.concurrency {
            return None;
        }
        let key = self.ready.pop_front()?;
        let lane = self.lanes.get_mut(&key)?;
        let count = if lane.window.is_zero() { 1 } else { lane.waiting.len().min(BURST_LIMIT) };
        let burst: Vec<T> = lane.waiting.drain(..count).collect();
        lane.place = Place::Running;
        self.running += 1;
        Some((key, burst))
    }

    /// The `count` running items of lane `key` are done: its next ones rest or get in line.
    pub(super) fn finished(&mut self, key: K, count: usize, now: Instant) {
        self.forget_running(count);
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if lane.waiting.is_empty() {
            self.lanes.remove(&key);
        } else if lane.due > now && !lane.window.is_zero() {
            lane.place = Place::Resting;
            self.resting.insert((lane.due, key));
        } else {
            self.make_ready(key);
        }
    }

    /// `count` running items were given back: nothing behind them may run, or it would overtake.
    pub(super) fn given_back(&mut self, count: usize) {
        self.forget_running(count);
    }

    fn forget_running(&mut self, count: usize) {
        self.running -= 1;
        self.held -= count;
    }

    fn make_ready(&mut self, key: K) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.place = Place::Ready;
            self.ready.push_back(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NO_WINDOW: Duration = Duration::ZERO;

    proptest! {
        /// Whatever arrives and finishes in whatever order, a lane's items run in order with at most one turn at a time,
        /// no more turns run than may, and all items run.
        #[test]
        fn items_of_a_lane_run_in_order_one_turn_at_a_time(
            arrivals in prop::collection::vec((0_u8..6, 0_u64..20), 0..200),
            concurrency in 1_usize..5,
            window_ms in prop_oneof![Just(0_u64), 1_u64..50],
            choices in prop::collection::vec(any::<prop::sample::Index>(), 400),
        ) {
            let mut now = Instant::now();
            let window = Duration::from_millis(window_ms);
            let mut lanes = Lanes::new(concurrency);
            let mut running: Vec<(u8, usize)> = Vec::new();
            let mut last_started: HashMap<u8, usize> = HashMap::new();
            let mut done = 0;
            let mut arrivals_left = arrivals.iter().enumerate();
            let mut step = 0;
            while done < arrivals.len() {
                if let Some((number, (key, pause_ms))) = arrivals_left.next() {
                    now += Duration::from_millis(*pause_ms);
                    lanes.push(*key, number, window, now);
                } else if running.is_empty() {
                    now = lanes.next_due().unwrap_or(now).max(now);
                }
                while let Some((key, burst)) = lanes.start_next(now) {
                    prop_assert!(running.iter().all(|(other, _)| *other != key));
                    prop_assert!(!burst.is_empty() && (burst.len() == 1 || window_ms > 0));
                    for number in &burst {
                        prop_assert!(last_started.insert(key, *number).is_none_or(|before| before < *number));
                    }
                    running.push((key, burst.len()));
                }
                prop_assert!(running.len() <= concurrency);
                if !running.is_empty() && (step % 2 == 1 || arrivals_left.len() == 0) {
                    let (key, count) = running.swap_remove(choices[step % choices.len()].index(running.len()));
                    lanes.finished(key, count, now);
                    done += count;
                }
                step += 1;
            }
            prop_assert_eq!(lanes.held(), 0);
            prop_assert!(lanes.lanes.is_empty() && lanes.resting.is_empty());
        }
    }

    #[test]
    fn a_noisy_lane_lets_the_others_take_turns() {
        let now = Instant::now();
        let mut lanes = Lanes::new(1);
        for number in 0..3 {
            lanes.push('a', number, NO_WINDOW, now);
        }
        lanes.push('b', 0, NO_WINDOW, now);
        let mut order = Vec::new();
        while let Some((key, burst)) = lanes.start_next(now) {
            order.push((key, burst[0]));
            lanes.finished(key, burst.len(), now);
        }
        assert_eq!(order, [('a', 0), ('b', 0), ('a', 1), ('a', 2)]);
    }

    #[test]
    fn nothing_runs_behind_an_item_that_was_given_back() {
        let now = Instant::now();
        let mut lanes = Lanes::new(2);
        lanes.push('a', 0, NO_WINDOW, now);
        lanes.push('a', 1, NO_WINDOW, now);
        lanes.start_next(now);
        lanes.given_back(1);
        assert_eq!(lanes.start_next(now), None);
    }

    #[test]
    fn a_burst_runs_as_one_once_it_pauses() {
        let (start, window) = (Instant::now(), Duration::from_secs(2));
        let at = |second| start + Duration::from_secs(second);
        let mut lanes = Lanes::new(1);
        lanes.push('a', 0, window, at(0));
        lanes.push('a', 1, window, at(1));
        assert_eq!(lanes.start_next(at(2)), None, "the second text came a second ago");
        assert_eq!(lanes.next_due(), Some(at(3)));
        assert_eq!(lanes.start_next(at(3)), Some(('a', vec![0, 1])));
        lanes.push('a', 2, window, at(4));
        lanes.finished('a', 2, at(5));
        assert_eq!(lanes.start_next(at(5)), None, "a text that came meanwhile rests too");
        assert_eq!(lanes.start_next(at(6)), Some(('a', vec![2])));
    }

    #[test]
    fn a_customer_who_never_pauses_is_answered_all_the_same() {
        let (start, window) = (Instant::now(), Duration::from_secs(2));
        let mut lanes = Lanes::new(1);
        for second in 0..10 {
            lanes.push('a', second, window, start + Duration::from_secs(second));
        }
        assert_eq!(lanes.next_due(), Some(start + window * LONGEST_REST));
    }
}
