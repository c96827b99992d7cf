//! A model of what follows the decisions: lanes, the broker's delays and a provider, in simulated time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use broker::delay_step;
use message::{Address, IntegrationId};

use super::*;

/// How long a part may wait in its lane.
const IN_LANE: Duration = Duration::from_secs(60);
/// How long the broker and the sender take at most for a part that comes back, in milliseconds.
const LATENCY_MS: u64 = 200;

/// How long a message that is parked for the given delay stays away.
type Delays = fn(Duration) -> Duration;

const RABBITMQ: Delays = |delay| delay_step(delay).1;
const EMBEDDED: Delays = |delay| delay;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives { conversation: usize, part: MessageId },
    Wakes { conversation: usize },
}

/// A conversation in this process.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<MessageId>,
    is_resting: bool,
    parked: Parked,
}

struct Model {
    rates: Rates,
    number: Number,
    cost: Duration,
    delays: Delays,
    is_crowded: bool,
    began: Instant,
    now: Duration,
    order: u64,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    lanes: HashMap<usize, Lane>,
    /// When the provider throttles, and for how long.
    throttles: VecDeque<(Duration, Duration)>,
    paused_until: Duration,
    /// The parts that went: when, of which conversation, and which part.
    sent: Vec<(Duration, usize, MessageId)>,
    /// For each delay, when the last message with it came back, or will come back.
    back: HashMap<Duration, Duration>,
    parkings: usize,
}

impl Model {
    fn new(rate_per_second: f64, delays: Delays) -> Self {
        Self {
            rates: Rates::new(Duration::from_secs(60)),
            number: (IntegrationId::parse("support").unwrap(), Address::parse("+12125550100").unwrap()),
            cost: crate::rate::cost(1, rate_per_second),
            delays,
            is_crowded: false,
            began: Instant::now(),
            now: Duration::ZERO,
            order: 0,
            events: BinaryHeap::new(),
            lanes: HashMap::new(),
            throttles: VecDeque::new(),
            paused_until: Duration::ZERO,
            sent: Vec::new(),
            back: HashMap::new(),
            parkings: 0,
        }
    }

    /// `count` parts arrive at once, in turn for each of `conversations`.
    fn with_parts(mut self, count: usize, conversations: usize) -> Self {
        for index in 0..count {
            let part = MessageId::of_provider(&self.number.0, &index.to_string());
            self.at(Duration::ZERO, Event::Arrives { conversation: index % conversations, part });
        }
        self
    }

    fn at(&mut self, when: Duration, event: Event) {
        self.order += 1;
        self.events.push(Reverse((when, self.order, event)));
    }

    fn run(mut self) -> Self {
        while let Some(Reverse((when, _, event))) = self.events.pop() {
            self.now = when;
            let conversation = match event {
                Event::Arrives { conversation, part } => {
                    self.lanes.entry(conversation).or_default().waiting.push_back(part);
                    conversation
                }
                Event::Wakes { conversation } => {
                    self.lanes.entry(conversation).or_default().is_resting = false;
                    conversation
                }
            };
            while self.look(conversation) {}
        }
        self
    }

    /// Looks at the first part of a lane; says whether the next one's turn follows at once.
    fn look(&mut self, conversation: usize) -> bool {
        let lane = self.lanes.get_mut(&conversation).unwrap();
        let Some(part) = lane.waiting.front().copied().filter(|_| !lane.is_resting) else { return false };
        let pause = self.paused_until.saturating_sub(self.now);
        let (number, parked) = (&self.number, &lane.parked);
        let candidate = Candidate { part, number, cost: self.cost, parked, pause, pair_pause: Duration::ZERO };
        let wall = Timestamp::UNIX_EPOCH.checked_add(self.now).unwrap();
        let held = match hold(&self.rates, &candidate, wall, self.began + self.now) {
            None => self.throttles.front().copied().filter(|(from, _)| *from <= self.now).map(|(_, pause)| {
                self.throttles.pop_front();
                self.paused_until = self.now + pause;
                Hold { delay: pause, cause: Cause::Throttle }
            }),
            held => held,
        };
        let lane = self.lanes.get_mut(&conversation).unwrap();
        let in_lane = if self.is_crowded { Duration::ZERO } else { IN_LANE };
        match held {
            None => {
                lane.waiting.pop_front();
                lane.parked.leave(part);
                self.rates.forget(&self.number, part);
                self.sent.push((self.now, conversation, part));
            }
            Some(hold) if hold.is_in_lane(in_lane) => {
                lane.is_resting = true;
                self.at(self.now + hold.delay, Event::Wakes { conversation });
            }
            Some(hold) => {
                lane.waiting.pop_front();
                lane.parked.park(part, hold, wall);
                self.parkings += 1;
                let delay = (self.delays)(hold.delay);
                let latency = Duration::from_millis(self.parkings as u64 * 37 % LATENCY_MS);
                // Equal delays share a queue, and none overtakes in it.
                let back = self.back.entry(delay).or_default();
                *back = (self.now + delay + latency).max(*back);
                let back = *back;
                self.at(back, Event::Arrives { conversation, part });
            }
        }
        true
    }

    fn last(&self) -> Duration {
        self.sent.last().unwrap().0
    }

    /// The longest time in which nothing went.
    fn longest_gap(&self) -> Duration {
        self.sent.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap()
    }

    fn assert_in_order(&self) {
        let mut by_conversation: HashMap<usize, Vec<MessageId>> = HashMap::new();
        for (_, conversation, part) in &self.sent {
            by_conversation.entry(*conversation).or_default().push(*part);
        }
        for (conversation, parts) in by_conversation {
            let expected = (0..self.sent.len()).filter(|index| index % self.lanes.len() == conversation);
            let expected: Vec<_> =
                expected.map(|index| MessageId::of_provider(&self.number.0, &index.to_string())).collect();
            assert_eq!(parts, expected, "conversation {conversation}");
        }
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn b3_600_replies_at_2_a_second_leave_in_four_minutes_however_they_are_spread() {
    for delays in [RABBITMQ, EMBEDDED] {
        for (conversations, is_crowded) in [(600, false), (600, true), (100, false), (7, false), (1, false)] {
            let model = Model { is_crowded, ..Model::new(2.0, delays) }.with_parts(600, conversations).run();
            model.assert_in_order();
            let case = format!("{conversations} conversations, crowded {is_crowded}, {} parkings", model.parkings);
            assert_eq!(model.sent.len(), 600, "{case}");
            let (last, gap) = (model.last().as_secs_f64(), model.longest_gap());
            assert!((239.0..=264.0).contains(&last), "{case}: the last after {last} s");
            // When the lanes are crowded nothing rests, so the first comes back after RabbitMQ's shortest delay.
            let longest = if is_crowded { seconds(6) } else { seconds(3) };
            assert!(gap < longest, "{case}: idle for {gap:?}");
        }
    }
}

#[test]
fn b3_a_number_goes_on_at_its_rate_after_it_was_throttled() {
    for delays in [RABBITMQ, EMBEDDED] {
        for (at_s, pause_s) in [(0, 20), (30, 1), (30, 20), (100, 90), (200, 5)] {
            for conversations in [600, 100, 7] {
                let mut model = Model::new(2.0, delays).with_parts(600, conversations);
                model.throttles.push_back((seconds(at_s), seconds(pause_s)));
                let model = model.run();
                model.assert_in_order();
                let case = format!("throttled at {at_s} for {pause_s} s, {conversations} conversations");
                assert_eq!(model.sent.len(), 600, "{case}");
                let (last, gap) = (model.last().as_secs_f64(), model.longest_gap());
                // A number that is throttled from the start has no minute's worth to send at once.
                let ideal_s = if at_s == 0 { 300.0 } else { 240.0 } + pause_s as f64;
                assert!(last <= 1.1 * ideal_s, "{case}: the last after {last} s");
                assert!(gap < seconds(pause_s + 3), "{case}: idle for {gap:?}");
            }
        }
    }
}

#[test]
fn b3_10_000_replies_behind_an_outage_leave_at_1_a_second_and_none_is_too_old() {
    let model = Model::new(1.0, RABBITMQ).with_parts(10_000, 10_000).run();
    let (last, gap) = (model.last().as_secs_f64() / 60.0, model.longest_gap());
    assert_eq!(model.sent.len(), 10_000);
    assert!((165.0..167.0).contains(&last), "the last after {last} min");
    assert!(gap < seconds(3), "idle for {gap:?}");
}

#[test]
fn b3_who_comes_later_does_not_hold_back_who_waits() {
    let mut model = Model::new(2.0, RABBITMQ).with_parts(600, 600);
    let late: Vec<_> = (600..1200).map(|index| MessageId::of_provider(&model.number.0, &index.to_string())).collect();
    for (conversation, part) in (600..).zip(&late) {
        model.at(seconds(conversation as u64 - 595), Event::Arrives { conversation, part: *part });
    }
    let model = model.run();
    let first_late = model.sent.iter().position(|(_, _, part)| late.contains(part)).unwrap();
    assert!(first_late >= 590, "the first that came later went as number {first_late}");
    assert!(model.longest_gap() < seconds(3), "{:?}", model.longest_gap());
}
