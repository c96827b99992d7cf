//! A lane is a conversation's serial queue in this process: one turn of a lane runs at a time, lanes run in parallel.
//! Ready lanes take turns on two levels: first the groups (integrations), then the lanes of a group. So a conversation
//! with many messages waits behind the others only once per turn, and an integration with many conversations too.
//!
//! A lane rests while its first message waits to be tried again: it keeps its place and holds no slot. Where a stage
//! joins bursts, a lane also rests until no message has come for a while, then all messages that came run as one.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// How many messages a burst has at most, so that a customer who never stops typing still gets an answer.
const BURST_LIMIT: usize = 20;
/// A burst rests for at most this many of its windows.
const LONGEST_REST: u32 = 5;
/// One of this many slots stays free for other groups, however long a group's turns hang.
const SLOTS_PER_RESERVED: usize = 8;

/// The lanes of one stage. Pure: it decides what may run, and the run loop runs it.
#[derive(Debug)]
pub(super) struct Lanes<G, K, T> {
    lanes: HashMap<K, Lane<G, T>>,
    /// Every group that was ever seen: there are few. From two groups on, slots are reserved.
    groups: HashMap<G, Group<K>>,
    /// The groups with ready lanes, the next one first.
    turns: VecDeque<G>,
    resting: BTreeSet<(Instant, K)>,
    /// How many of the resting lanes wait to run their first item again.
    retrying: usize,
    running: usize,
    concurrency: usize,
}

#[derive(Debug)]
struct Group<K> {
    ready: VecDeque<K>,
    running: usize,
}

#[derive(Debug)]
struct Lane<G, T> {
    group: G,
    /// The item that ran before and runs again, first and alone.
    again: Option<T>,
    waiting: VecDeque<Waiting<T>>,
    /// Until when the waiting items wait for others to join. `due` moves with each item that comes, up to
    /// `due_at_last`.
    due: Instant,
    due_at_last: Instant,
    place: Place,
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    /// How long it waits for others to join; zero joins nothing.
    window: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Resting(Instant),
    Ready,
    Running,
}

impl<G: Clone + Eq + Hash, K: Copy + Eq + Hash + Ord, T> Lanes<G, K, T> {
    /// Lanes of which at most `concurrency` (at least 1) run at a time.
    pub(super) fn new(concurrency: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            groups: HashMap::new(),
            turns: VecDeque::new(),
            resting: BTreeSet::new(),
            retrying: 0,
            running: 0,
            concurrency: concurrency.max(1),
        }
    }

    /// How many lanes rest because their first item is to be tried again.
    pub(super) fn retrying(&self) -> usize {
        self.retrying
    }

    /// Adds `item` at the end of lane `key`, which belongs to `group`. The item waits `window` for others to join.
    pub(super) fn push(&mut self, group: G, key: K, item: T, window: Duration, now: Instant) {
        let mut is_new = false;
        let lane = self.lanes.entry(key).or_insert_with(|| {
            is_new = true;
            // Its place is set below.
            let place = Place::Running;
            Lane { group, again: None, waiting: VecDeque::new(), due: now, due_at_last: now, place }
        });
        if lane.waiting.is_empty() {
            lane.due_at_last = now + window * LONGEST_REST;
        }
        lane.waiting.push_back(Waiting { item, window });
        let is_full = lane.waiting.len() >= BURST_LIMIT;
        lane.due = if is_full { now } else { (now + window).min(lane.due_at_last) };
        let due = lane.due;
        match lane.place {
            _ if is_new && window.is_zero() => self.make_ready(key),
            _ if is_new => self.rest_until(key, due),
            Place::Resting(until) if lane.again.is_none() => {
                self.resting.remove(&(until, key));
                self.rest_until(key, due);
            }
            Place::Resting(_) | Place::Ready | Place::Running => {}
        }
    }

    /// When the next resting lane is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.resting.first().map(|(due, _)| *due)
    }

    /// The next items to run as one, if any may run now. Their lane stays closed until [`Lanes::finished`] or
    /// [`Lanes::again_at`].
    ///
    /// Groups take turns: one with a ready lane and a slot of its share is served after at most as many starts as there
    /// are groups with ready lanes.
    pub(super) fn start_next(&mut self, now: Instant) -> Option<(K, Vec<T>)> {
        while let Some((due, key)) = self.resting.first().copied().filter(|(due, _)| *due <= now) {
            self.resting.remove(&(due, key));
            self.make_ready(key);
        }
        if self.running >= self.concurrency {
            return None;
        }
        let share = self.share();
        let has_slot = |group: &G| self.groups.get(group).is_some_and(|group| group.running < share);
        let group_key = self.turns.iter().position(has_slot).and_then(|at| self.turns.remove(at))?;
        let group = self.groups.get_mut(&group_key)?;
        let key = group.ready.pop_front()?;
        group.running += 1;
        if !group.ready.is_empty() {
            self.turns.push_back(group_key);
        }
        let lane = self.lanes.get_mut(&key)?;
        lane.place = Place::Running;
        self.running += 1;
        if let Some(item) = lane.again.take() {
            self.retrying -= 1;
            return Some((key, vec![item]));
        }
        Some((key, lane.next_burst()))
    }

    /// The running items of lane `key` are done: its next ones rest or get in line.
    pub(super) fn finished(&mut self, key: K, now: Instant) {
        self.free_slot(key);
        let Some(lane) = self.lanes.get(&key) else { return };
        let due = lane.due;
        match lane.waiting.front() {
            None => drop(self.lanes.remove(&key)),
            Some(next) if due > now && !next.window.is_zero() => self.rest_until(key, due),
            Some(_) => self.make_ready(key),
        }
    }

    /// The items that ran in lane `key` run again, as `item`, at `at`; nothing overtakes them.
    pub(super) fn again_at(&mut self, key: K, item: T, at: Instant) {
        self.free_slot(key);
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.again = Some(item);
        self.retrying += 1;
        self.rest_until(key, at);
    }

    /// The running items of lane `key` were given back: nothing behind them may run, or it would overtake.
    pub(super) fn given_back(&mut self, key: K) {
        self.free_slot(key);
    }

    /// How many slots a group may have.
    fn share(&self) -> usize {
        let is_alone = self.groups.len() < 2;
        if is_alone { self.concurrency } else { self.concurrency - self.concurrency / SLOTS_PER_RESERVED }
    }

    fn free_slot(&mut self, key: K) {
        self.running -= 1;
        if let Some(group) = self.lanes.get(&key).and_then(|lane| self.groups.get_mut(&lane.group)) {
            group.running -= 1;
        }
    }

    fn rest_until(&mut self, key: K, until: Instant) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.place = Place::Resting(until);
            self.resting.insert((until, key));
        }
    }

    fn make_ready(&mut self, key: K) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.place = Place::Ready;
        let new = || Group { ready: VecDeque::new(), running: 0 };
        let group = self.groups.entry(lane.group.clone()).or_insert_with(new);
        if group.ready.is_empty() {
            self.turns.push_back(lane.group.clone());
        }
        group.ready.push_back(key);
    }
}

impl<G, T> Lane<G, T> {
    /// The first waiting item with those behind it that it may join.
    fn next_burst(&mut self) -> Vec<T> {
        let mut burst = Vec::new();
        while burst.len() < BURST_LIMIT
            && let Some(next) = self.waiting.pop_front()
        {
            burst.push(next.item);
            let joins = |waiting: &Waiting<T>| !waiting.window.is_zero();
            if next.window.is_zero() || !self.waiting.front().is_some_and(joins) {
                break;
            }
        }
        burst
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NO_WINDOW: Duration = Duration::ZERO;

    /// How often in a row each group was passed over although it had a slot.
    #[derive(Default)]
    struct PassedOver(HashMap<u8, usize>);

    impl PassedOver {
        /// Starts what may start next; fails when that is unfair.
        fn start(&mut self, lanes: &mut Lanes<u8, u8, usize>, now: Instant) -> Option<(u8, Vec<usize>)> {
            let has_slot = |lanes: &Lanes<u8, u8, usize>, group: &u8| lanes.groups[group].running < lanes.share();
            let started = lanes.start_next(now);
            let ready: Vec<u8> = lanes.turns.iter().copied().filter(|group| has_slot(lanes, group)).collect();
            self.0.retain(|group, _| ready.contains(group));
            let (key, _) = started.as_ref()?;
            self.0.remove(&(key % 3));
            for group in ready.into_iter().filter(|group| *group != key % 3) {
                let passed = self.0.entry(group).or_default();
                *passed += 1;
                assert!(*passed <= 2, "of three, group {group} was passed over {passed} times");
            }
            started
        }
    }

    proptest! {
        /// Whatever arrives, finishes and rests in whatever order: a lane's items run in order with at most one turn at
        /// a time, no more turns run than may, none of a group beyond its share, groups take turns, and all items run.
        #[test]
        fn items_of_a_lane_run_in_order_one_turn_at_a_time_and_groups_take_turns(
            arrivals in prop::collection::vec((0_u8..9, 0_u64..20), 0..200),
            concurrency in 1_usize..12,
            window_ms in prop_oneof![Just(0_u64), 1_u64..50],
            choices in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..4), 400),
        ) {
            let mut now = Instant::now();
            let window = Duration::from_millis(window_ms);
            let mut lanes = Lanes::new(concurrency);
            let mut running: Vec<(u8, Vec<usize>)> = Vec::new();
            let mut last_started: HashMap<u8, usize> = HashMap::new();
            let mut again: HashMap<u8, usize> = HashMap::new();
            let mut passed_over = PassedOver::default();
            let mut done = 0;
            let mut arrivals_left = arrivals.iter().enumerate();
            let mut step = 0;
            while done < arrivals.len() {
                if let Some((number, (key, pause_ms))) = arrivals_left.next() {
                    now += Duration::from_millis(*pause_ms);
                    lanes.push(key % 3, *key, number, window, now);
                } else if running.is_empty() {
                    now = lanes.next_due().unwrap_or(now).max(now);
                }
                while let Some((key, burst)) = passed_over.start(&mut lanes, now) {
                    prop_assert!(running.iter().all(|(other, _)| *other != key));
                    if let Some(number) = again.remove(&key) {
                        prop_assert_eq!(&burst, &[number], "what rested goes first and alone");
                    } else {
                        prop_assert!(!burst.is_empty() && (burst.len() == 1 || window_ms > 0));
                        for number in &burst {
                            prop_assert!(last_started.insert(key, *number).is_none_or(|before| before < *number));
                        }
                    }
                    running.push((key, burst));
                }
                prop_assert!(running.len() <= concurrency);
                if !running.is_empty() && (step % 2 == 1 || arrivals_left.len() == 0) {
                    let (which, fate) = choices[step % choices.len()];
                    let (key, burst) = running.swap_remove(which.index(running.len()));
                    if fate == 0 && step < 300 {
                        // A burst that rests has become one item.
                        done += burst.len() - 1;
                        again.insert(key, burst[0]);
                        lanes.again_at(key, burst[0], now + Duration::from_millis(7));
                    } else {
                        done += burst.len();
                        lanes.finished(key, now);
                    }
                }
                prop_assert_eq!(lanes.retrying(), again.len());
                step += 1;
            }
            prop_assert!(lanes.lanes.is_empty() && lanes.resting.is_empty() && lanes.turns.is_empty());
            prop_assert!(lanes.running == 0 && lanes.groups.values().all(|group| group.running == 0));
        }
    }

    #[test]
    fn a_group_whose_turns_hang_leaves_a_slot_to_the_others() {
        let now = Instant::now();
        let mut lanes = Lanes::new(16);
        for key in 0..100 {
            lanes.push("slow", key, (), NO_WINDOW, now);
        }
        let started = std::iter::from_fn(|| lanes.start_next(now)).count();
        assert_eq!(started, 16, "alone it may have all");
        lanes.push("quick", 100, (), NO_WINDOW, now);
        assert_eq!(lanes.start_next(now), None);
        for key in 0..3 {
            lanes.finished(key, now);
        }
        assert_eq!(lanes.start_next(now), Some((16, vec![()])), "it was first in line");
        assert_eq!(lanes.start_next(now), Some((100, vec![()])));
        assert_eq!(lanes.start_next(now), None, "14 of 16 slots, now that there are two");
        lanes.push("quick", 101, (), NO_WINDOW, now);
        assert_eq!(lanes.start_next(now), Some((101, vec![()])));
    }

    #[test]
    fn a_resting_lane_holds_no_slot_and_nothing_overtakes_in_it() {
        let (now, pause) = (Instant::now(), Duration::from_secs(1));
        let mut lanes = Lanes::new(1);
        lanes.push("g", 'a', 0, NO_WINDOW, now);
        lanes.push("g", 'a', 1, NO_WINDOW, now);
        lanes.push("g", 'b', 2, NO_WINDOW, now);
        assert_eq!(lanes.start_next(now), Some(('a', vec![0])));
        lanes.again_at('a', 0, now + pause);
        assert_eq!((lanes.retrying(), lanes.next_due()), (1, Some(now + pause)));
        assert_eq!(lanes.start_next(now), Some(('b', vec![2])));
        lanes.finished('b', now);
        lanes.push("g", 'a', 3, NO_WINDOW, now);
        assert_eq!(lanes.start_next(now), None, "what comes meanwhile wakes nobody");
        assert_eq!(lanes.start_next(now + pause), Some(('a', vec![0])));
        lanes.finished('a', now + pause);
        assert_eq!(lanes.start_next(now + pause), Some(('a', vec![1])));
    }

    #[test]
    fn what_joins_nothing_runs_alone_among_what_joins() {
        let (now, window) = (Instant::now(), Duration::from_secs(2));
        let mut lanes = Lanes::new(1);
        for (number, window) in [(0, window), (1, window), (2, NO_WINDOW), (3, window), (4, window)] {
            lanes.push("g", 'a', number, window, now);
        }
        let mut bursts = Vec::new();
        while let Some((key, burst)) = lanes.start_next(now + window) {
            bursts.push(burst);
            lanes.finished(key, now + window);
        }
        assert_eq!(bursts, [vec![0, 1], vec![2], vec![3, 4]]);
    }

    #[test]
    fn a_noisy_lane_lets_the_others_take_turns() {
        let now = Instant::now();
        let mut lanes = Lanes::new(1);
        for number in 0..3 {
            lanes.push("g", 'a', number, NO_WINDOW, now);
        }
        lanes.push("g", 'b', 0, NO_WINDOW, now);
        let mut order = Vec::new();
        while let Some((key, burst)) = lanes.start_next(now) {
            order.push((key, burst[0]));
            lanes.finished(key, now);
        }
        assert_eq!(order, [('a', 0), ('b', 0), ('a', 1), ('a', 2)]);
    }

    #[test]
    fn nothing_runs_behind_an_item_that_was_given_back() {
        let now = Instant::now();
        let mut lanes = Lanes::new(2);
        lanes.push("g", 'a', 0, NO_WINDOW, now);
        lanes.push("g", 'a', 1, NO_WINDOW, now);
        lanes.start_next(now);
        lanes.given_back('a');
        assert_eq!(lanes.start_next(now), None);
    }

    #[test]
    fn a_burst_runs_as_one_once_it_pauses() {
        let (start, window) = (Instant::now(), Duration::from_secs(2));
        let at = |second| start + Duration::from_secs(second);
        let mut lanes = Lanes::new(1);
        lanes.push("g", 'a', 0, window, at(0));
        lanes.push("g", 'a', 1, window, at(1));
        assert_eq!(lanes.start_next(at(2)), None, "the second text came a second ago");
        assert_eq!(lanes.next_due(), Some(at(3)));
        assert_eq!(lanes.start_next(at(3)), Some(('a', vec![0, 1])));
        lanes.push("g", 'a', 2, window, at(4));
        lanes.finished('a', at(5));
        assert_eq!(lanes.start_next(at(5)), None, "a text that came meanwhile rests too");
        assert_eq!(lanes.start_next(at(6)), Some(('a', vec![2])));
    }

    #[test]
    fn a_customer_who_never_pauses_is_answered_all_the_same() {
        let (start, window) = (Instant::now(), Duration::from_secs(2));
        let mut lanes = Lanes::new(1);
        for second in 0..10 {
            lanes.push("g", 'a', second, window, start + Duration::from_secs(second));
        }
        assert_eq!(lanes.next_due(), Some(start + window * LONGEST_REST));
    }
}
