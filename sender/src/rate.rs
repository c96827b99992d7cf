//! How fast each of our numbers may send. Providers queue short bursts themselves, so a minute's worth may go at once;
//! longer runs are held to the configured rate, and when a number's pause ends not everything goes at once.
//!
//! A part that has to wait gets a ticket, and keeps it until it is done: it goes before all that came later, however
//! often it asks. The part itself waits in a lane or at the broker, and asks again at the time it was told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use message::{Address, IntegrationId, MessageId};
use tokio::time::Instant;

/// The longest pause of a number, whatever the provider's hint, and the longest wait of a part: 24 h.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
/// How many tickets are kept at most, some 8 MiB: a number of one segment a second sends fewer before replies expire. A
/// part beyond that waits for all of them, and asks again.
const MOST_TICKETS: usize = 50_000;
/// From this many tickets on, stale ones are swept every [`SWEEP_EVERY`]: tickets whose parts will not ask any more.
const FEW_TICKETS: usize = 1_024;
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Costs are summed up in advance for spans of this many places: a sum over all tickets then takes a few hundred steps.
const SPAN: u64 = 256;
/// How long after its time a ticket is stale, 1 h: its part went to another sender, or was parked for another reason.
const LOST_AFTER: Duration = Duration::from_secs(60 * 60);

/// A number of ours on an integration.
pub(crate) type Number = (IntegrationId, Address);

/// The pace of each number in this process.
#[derive(Debug)]
pub(crate) struct Rates {
    /// How much may go at once, in sending time.
    burst: Duration,
    numbers: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    all: HashMap<Number, Queue>,
    /// How many tickets there are; `sweep_at` is when stale ones are swept next.
    tickets: usize,
    sweep_at: Option<Instant>,
}

#[derive(Debug)]
struct Queue {
    /// Until when the parts that went keep the number busy, if there were no bursts.
    busy_until: Instant,
    /// The parts that are not done, first to go first.
    tickets: BTreeMap<u64, Ticket>,
    by_part: HashMap<MessageId, u64>,
    next: u64,
    /// The tickets that are not due yet, and the sum of their costs for each span of places.
    awaited: BTreeSet<(Instant, u64)>,
    costs: BTreeMap<u64, Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Ticket {
    part: MessageId,
    cost: Duration,
    /// When it may go. A ticket that is late, or waits for something else than its rate, delays no other.
    due: Instant,
}

impl Rates {
    /// Rates at which `burst` of sending time may go at once.
    pub(crate) fn new(burst: Duration) -> Self {
        Self { burst, numbers: Mutex::default() }
    }

    /// How long `part` has to wait at `now` until it may go, at least `floor`; a day at most. At zero it goes, and
    /// takes `cost` of its number's sending time.
    pub(crate) fn take(
        &self,
        number: &Number,
        part: MessageId,
        cost: Duration,
        floor: Duration,
        now: Instant,
    ) -> Duration {
        let numbers = &mut *self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.sweep(now);
        let has_room = numbers.tickets < MOST_TICKETS;
        let queue = numbers.all.entry(number.clone()).or_insert_with(|| Queue::new(now));
        queue.overlook_late(now);
        let known = queue.by_part.get(&part).copied();
        let place = known.unwrap_or(queue.next);
        let turn = queue.wait_of(place, now).saturating_sub(self.burst).min(LONGEST_PAUSE);
        let wait = turn.max(floor);
        if wait.is_zero() {
            queue.busy_until = queue.busy_until.max(now) + cost;
        }
        if known.is_some() || has_room {
            numbers.tickets += usize::from(known.is_none());
            let due = if turn >= floor { now + turn } else { now };
            queue.put(place, Ticket { part, cost, due }, now);
        }
        wait
    }

    /// Forgets `part`, which will not ask any more: those behind it move up.
    pub(crate) fn forget(&self, number: &Number, part: MessageId) {
        let numbers = &mut *self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = numbers.all.get_mut(number) else { return };
        numbers.tickets -= usize::from(queue.remove(part));
    }

    /// Holds everything of `number` back for `pause` (at most a day) from `now`, without a burst after it.
    pub(crate) fn pause(&self, number: &Number, pause: Duration, now: Instant) {
        let until = now + self.burst + pause.min(LONGEST_PAUSE);
        let numbers = &mut *self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = numbers.all.entry(number.clone()).or_insert_with(|| Queue::new(now));
        queue.busy_until = queue.busy_until.max(until);
    }
}

impl Numbers {
    /// Removes stale tickets, at most every [`SWEEP_EVERY`].
    fn sweep(&mut self, now: Instant) {
        if self.tickets < FEW_TICKETS || self.sweep_at.is_some_and(|at| now < at) {
            return;
        }
        self.sweep_at = Some(now + SWEEP_EVERY);
        for queue in self.all.values_mut() {
            queue.overlook_late(now);
            queue.tickets.retain(|_, ticket| now < ticket.due + LOST_AFTER);
            let Queue { tickets, by_part, .. } = queue;
            by_part.retain(|_, place| tickets.contains_key(place));
        }
        self.tickets = self.all.values().map(|queue| queue.tickets.len()).sum();
    }
}

impl Queue {
    fn new(now: Instant) -> Self {
        let (tickets, by_part) = (BTreeMap::new(), HashMap::new());
        Self { busy_until: now, tickets, by_part, next: 0, awaited: BTreeSet::new(), costs: BTreeMap::new() }
    }

    /// How long until everything before `place` has gone, what waits included.
    fn wait_of(&self, place: u64, now: Instant) -> Duration {
        let span = place / SPAN;
        let before: Duration = self.costs.range(..span).map(|(_, costs)| *costs).sum();
        let beside = self.tickets.range(span * SPAN..place).filter(|(_, ticket)| ticket.due > now);
        let beside: Duration = beside.map(|(_, ticket)| ticket.cost).sum();
        self.busy_until.saturating_duration_since(now).saturating_add(before).saturating_add(beside)
    }

    fn put(&mut self, place: u64, ticket: Ticket, now: Instant) {
        self.by_part.insert(ticket.part, place);
        if let Some(before) = self.tickets.insert(place, ticket) {
            self.await_no_more(place, before);
        }
        if ticket.due > now {
            self.awaited.insert((ticket.due, place));
            *self.costs.entry(place / SPAN).or_default() += ticket.cost;
        }
        self.next = self.next.max(place + 1);
    }

    /// Removes the ticket of `part`, and returns whether there was one.
    fn remove(&mut self, part: MessageId) -> bool {
        let Some(place) = self.by_part.remove(&part) else { return false };
        if let Some(ticket) = self.tickets.remove(&place) {
            self.await_no_more(place, ticket);
        }
        true
    }

    fn overlook_late(&mut self, now: Instant) {
        while let Some(&(_, place)) = self.awaited.first().filter(|(due, _)| *due <= now) {
            let Some(ticket) = self.tickets.get(&place).copied() else { break };
            self.await_no_more(place, ticket);
        }
    }

    fn await_no_more(&mut self, place: u64, ticket: Ticket) {
        if !self.awaited.remove(&(ticket.due, place)) {
            return;
        }
        if let Some(costs) = self.costs.get_mut(&(place / SPAN)) {
            *costs = costs.saturating_sub(ticket.cost);
            if costs.is_zero() {
                self.costs.remove(&(place / SPAN));
            }
        }
    }
}

/// The sending time of `segments` at `rate_per_second`, at most an hour.
pub(crate) fn cost(segments: usize, rate_per_second: f64) -> Duration {
    const MOST: Duration = Duration::from_secs(3600);
    let segments = u32::try_from(segments).unwrap_or(u32::MAX);
    Duration::try_from_secs_f64(f64::from(segments) / rate_per_second).map_or(MOST, |cost| cost.min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NONE: Duration = Duration::ZERO;

    fn number(last_digit: u8) -> Number {
        let number = Address::parse(&format!("+1212555010{last_digit}")).unwrap();
        (IntegrationId::parse("support").unwrap(), number)
    }

    fn part(index: usize) -> MessageId {
        MessageId::of_provider(&IntegrationId::parse("support").unwrap(), &index.to_string())
    }

    fn rates() -> Rates {
        Rates::new(60 * SECOND)
    }

    #[test]
    fn a_minutes_worth_goes_at_once_and_the_rest_at_the_rate() {
        let (rates, now) = (rates(), Instant::now());
        let take = |index, now| rates.take(&number(0), part(index), SECOND, NONE, now);
        for index in 0..=60 {
            assert_eq!(take(index, now), NONE);
        }
        for seconds in 1..=9 {
            assert_eq!(take(60 + seconds, now), SECOND * seconds as u32, "one after the other");
        }
        assert_eq!(rates.take(&number(1), part(99), SECOND, NONE, now), NONE, "another number is free");
        assert_eq!(take(61, now + SECOND), NONE);
    }

    #[test]
    fn b3_who_asks_again_keeps_its_turn_and_who_vanishes_holds_nobody_up() {
        let (rates, now) = (rates(), Instant::now());
        let take = |index, now| rates.take(&number(0), part(index), SECOND, NONE, now);
        for index in 0..=60 {
            take(index, now);
            rates.forget(&number(0), part(index));
        }
        for index in 61..=80 {
            take(index, now);
        }
        assert_eq!(take(70, now + SECOND / 2), 9 * SECOND + SECOND / 2, "early, it is told the rest");
        assert_eq!(take(99, now + SECOND / 2), 20 * SECOND + SECOND / 2, "who is new comes last");
        rates.forget(&number(0), part(75));
        assert_eq!(take(99, now + SECOND / 2), 19 * SECOND + SECOND / 2, "who is gone leaves its time to those behind");
        assert_eq!(take(70, now + 12 * SECOND), NONE, "those ahead are late, and it does not wait for them");
        assert_eq!(take(61, now + 12 * SECOND), NONE, "nor do they queue up anew");
        rates.pause(&number(0), 10 * SECOND, now + 12 * SECOND);
        assert_eq!(take(62, now + 12 * SECOND), 10 * SECOND);
        assert_eq!(take(70, now + 12 * SECOND), 11 * SECOND, "what failed is tried again in its old place");
    }

    #[test]
    fn b3_who_waits_for_something_else_keeps_its_place_and_takes_no_time() {
        let (rates, now) = (Rates::new(NONE), Instant::now());
        let take = |index, floor, now| rates.take(&number(0), part(index), SECOND, floor, now);
        assert_eq!(take(0, NONE, now), NONE);
        assert_eq!(take(1, 600 * SECOND, now), 600 * SECOND);
        assert_eq!(take(2, NONE, now), SECOND, "as if it were not there");
        assert_eq!(take(3, NONE, now), 2 * SECOND);
        assert_eq!(take(1, NONE, now), SECOND, "but once it may go it goes first");
        assert_eq!(take(3, NONE, now), 3 * SECOND);
    }

    #[test]
    fn a_pause_holds_the_whole_number_and_ends() {
        let (rates, now) = (rates(), Instant::now());
        rates.pause(&number(0), 30 * SECOND, now);
        assert_eq!(rates.take(&number(0), part(0), SECOND, NONE, now), 30 * SECOND);
        assert_eq!(rates.take(&number(1), part(1), SECOND, NONE, now), NONE);
        assert_eq!(rates.take(&number(0), part(0), SECOND, NONE, now + 27 * SECOND), 3 * SECOND);
        rates.pause(&number(0), SECOND, now + 27 * SECOND);
        assert_eq!(rates.take(&number(0), part(0), SECOND, NONE, now + 30 * SECOND), NONE, "a pause is not added up");
    }

    #[test]
    fn g8_tickets_are_bounded_and_those_nobody_asks_for_are_forgotten() {
        let (rates, now) = (Rates::new(NONE), Instant::now());
        let cost = Duration::from_millis(1);
        let held = || rates.numbers.lock().unwrap().tickets;
        for index in 0..MOST_TICKETS + 10 {
            rates.take(&number((index % 10) as u8), part(index), cost, NONE, now);
        }
        assert_eq!(held(), MOST_TICKETS);
        let later = now + LOST_AFTER + 100 * SECOND;
        rates.take(&number(0), part(0), cost, NONE, later);
        assert_eq!(held(), 1);
        rates.forget(&number(0), part(0));
        rates.forget(&number(0), part(0));
        assert_eq!(held(), 0);
    }

    #[test]
    fn costs_follow_the_rate_and_stay_finite() {
        assert_eq!(cost(3, 2.0), Duration::from_millis(1500));
        for rate in [0.0, -1.0, f64::NAN, f64::MIN_POSITIVE] {
            assert_eq!(cost(1, rate), Duration::from_secs(3600), "{rate}");
        }
        assert_eq!(cost(1, f64::INFINITY), Duration::ZERO);
    }
}
