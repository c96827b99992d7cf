//! The parts of a conversation that wait at the broker, in order: those behind a parked part wait with it.

use std::time::Duration;

use message::MessageId;
use message::clock::Timestamp;
use serde::{Deserialize, Serialize};

/// How much later a part comes back than the one ahead of it, 100 ms: RabbitMQ keeps the order of equal delays, and a
/// longer distance would hold a conversation of many parts back.
const STEP: Duration = Duration::from_millis(100);
/// How often a part looks for a late one ahead of it: the first [`SOON_LOOKS`] times soon, because that one is on its
/// way.
const SOON: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(30);
const SOON_LOOKS: u16 = 6;
/// A part that was looked for in vain this often (in 90 minutes) was lost, or became a dead letter elsewhere. Looks are
/// counted rather than time, because a clock that is set forward makes every part late.
const LOST_AFTER: u16 = 186;

/// What a part waits for at the broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    /// Its turn at its number's rate.
    Rate,
    /// The end of a pause that its provider asked for.
    Throttle,
    /// Its next try, no sooner than it was told. Parts that earlier releases parked count as this.
    #[default]
    Retry,
    /// The part ahead of it in its conversation.
    Behind,
}

impl Cause {
    /// Its name in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Throttle => "throttle",
            Self::Retry => "retry",
            Self::Behind => "behind",
        }
    }
}

/// How long a part has to wait, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) delay: Duration,
    pub(crate) cause: Cause,
}

/// The parked parts of one conversation, first to go first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Parked(Vec<Place>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    part: MessageId,
    due_at: Timestamp,
    /// When it was parked; a clock that shows less was set back since.
    #[serde(default)]
    parked_at: Timestamp,
    /// How often the one behind it looked for it in vain.
    #[serde(default)]
    missed: u16,
    #[serde(default)]
    cause: Cause,
}

impl Parked {
    /// How long `part` has to wait, for the one ahead of it or because it came back before its next try: RabbitMQ's
    /// delays are rounded down. `None` when it may go.
    pub(crate) fn hold_of(&self, part: MessageId, now: Timestamp) -> Option<Hold> {
        if let Some(ahead) = self.ahead_of(part).map(|at| &self.0[at]) {
            let rest = until(self.now(now), ahead.due_at);
            let late = if ahead.missed < SOON_LOOKS { SOON } else { LATE };
            let delay = if rest.is_zero() { late } else { rest.saturating_add(STEP) };
            return Some(Hold { delay, cause: Cause::Behind });
        }
        // A part that waits for its rate or for a pause is checked against those again.
        let own = self.0.iter().find(|place| place.part == part && place.cause == Cause::Retry)?;
        let delay = until(now, own.due_at);
        // After the clock was set back, only the broker knows how long the delay was, and it has waited.
        (!delay.is_zero() && own.parked_at <= now).then_some(Hold { delay, cause: Cause::Retry })
    }

    /// Gives `part` a place at the end, or keeps the one it has; it is due after its hold. Returns whether it begins to
    /// wait, or waits for another cause than before: a part that comes back early goes on waiting.
    pub(crate) fn park(&mut self, part: MessageId, hold: Hold, now: Timestamp) -> bool {
        self.set_back_to(now);
        if let Some(ahead) = self.ahead_of(part).map(|at| &mut self.0[at]).filter(|ahead| ahead.due_at <= now) {
            ahead.missed = ahead.missed.saturating_add(1);
        }
        let due_at = now.checked_add(hold.delay).unwrap_or(Timestamp::MAX);
        let place = Place { part, due_at, parked_at: now, missed: 0, cause: hold.cause };
        match self.0.iter_mut().find(|place| place.part == part) {
            Some(known) => std::mem::replace(known, place).cause != hold.cause,
            None => {
                self.0.push(place);
                true
            }
        }
    }

    /// Removes `part`, and returns whether it was there.
    pub(crate) fn leave(&mut self, part: MessageId) -> bool {
        let before = self.0.len();
        self.0.retain(|place| place.part != part);
        self.0.len() < before
    }

    /// The index of the part that `part` waits for.
    fn ahead_of(&self, part: MessageId) -> Option<usize> {
        let ahead = self.0.iter().take_while(|place| place.part != part).collect::<Vec<_>>();
        ahead.iter().rposition(|place| place.missed < LOST_AFTER)
    }

    /// The time by a clock that was not set back: no earlier than when any part here was parked.
    fn now(&self, now: Timestamp) -> Timestamp {
        self.0.iter().map(|place| place.parked_at).fold(now, Timestamp::max)
    }

    /// Follows a clock that was set back to `now`: what is left of each delay stays.
    fn set_back_to(&mut self, now: Timestamp) {
        let by = self.now(now).duration_since(now);
        for place in self.0.iter_mut().filter(|_| by.is_positive()) {
            place.due_at = place.due_at.checked_sub(by).unwrap_or(place.due_at);
            place.parked_at = place.parked_at.checked_sub(by).unwrap_or(place.parked_at);
        }
    }
}

fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use message::IntegrationId;

    use super::*;

    fn part(index: u8) -> MessageId {
        MessageId::of_provider(&IntegrationId::parse("support").unwrap(), "SM1").derive(&format!("part/{index}"))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn retry(delay: Duration) -> Hold {
        Hold { delay, cause: Cause::Retry }
    }

    fn behind(delay: Duration) -> Hold {
        Hold { delay, cause: Cause::Behind }
    }

    impl Parked {
        fn wait_of(&self, part: MessageId, now: Timestamp) -> Option<Duration> {
            self.hold_of(part, now).map(|hold| hold.delay)
        }
    }

    #[test]
    fn everybody_waits_for_the_one_ahead() {
        let mut parked = Parked::default();
        assert_eq!(parked.wait_of(part(0), at(0)), None);
        parked.park(part(0), retry(seconds(100)), at(0));
        assert_eq!(parked.wait_of(part(0), at(100)), None, "the first waits for nobody");
        assert_eq!(parked.wait_of(part(0), at(99)), Some(seconds(1)), "but no shorter than it was told");
        assert_eq!(parked.wait_of(part(1), at(10)), Some(seconds(90) + STEP));
        parked.park(part(1), retry(seconds(91)), at(10));
        assert_eq!(parked.wait_of(part(2), at(10)), Some(seconds(91) + STEP));
        parked.park(part(0), retry(seconds(50)), at(100));
        assert_eq!(parked.wait_of(part(1), at(101)), Some(seconds(49) + STEP), "parked again it keeps its place");
        assert_eq!(parked.wait_of(part(1), at(160)), Some(SOON));
        assert!(parked.leave(part(0)));
        assert_eq!(parked.wait_of(part(1), at(160)), None);
        assert!(!parked.leave(part(0)));
    }

    #[test]
    fn a_part_that_never_comes_back_does_not_hold_the_others_for_ever() {
        let mut parked = Parked::default();
        parked.park(part(0), retry(seconds(100)), at(0));
        for look in 0..186 {
            let (now, late) = (at(100 + 30 * look), if look < 6 { SOON } else { LATE });
            assert_eq!(parked.wait_of(part(1), now), Some(late), "look {look}");
            parked.park(part(1), behind(late), now);
        }
        assert_eq!(parked.wait_of(part(1), at(5700)), None);
        assert!(parked.leave(part(1)));
        assert_eq!(parked.wait_of(part(2), at(5700)), None, "nor the next");
        parked.park(part(3), retry(Duration::MAX), at(0));
        assert!(parked.wait_of(part(4), at(9000)).is_some(), "the longest delay is survived");
    }

    #[test]
    fn b3_only_a_next_try_is_waited_for_to_the_end_and_only_a_new_wait_is_told() {
        let mut parked = Parked::default();
        for cause in [Cause::Rate, Cause::Throttle, Cause::Behind] {
            assert!(parked.park(part(0), Hold { delay: seconds(100), cause }, at(0)), "{cause:?}");
            assert_eq!(parked.hold_of(part(0), at(30)), None, "{cause:?}: it asks again when it may go");
            assert!(!parked.park(part(0), Hold { delay: seconds(70), cause }, at(30)), "{cause:?}");
        }
        assert!(parked.park(part(0), retry(seconds(100)), at(30)));
        assert_eq!(parked.hold_of(part(0), at(60)), Some(retry(seconds(70))));
        assert_eq!(parked.hold_of(part(1), at(60)), Some(behind(seconds(70) + STEP)));
    }

    #[test]
    fn g4_nobody_overtakes_however_far_the_clock_is_set_forward() {
        let mut parked = Parked::default();
        parked.park(part(0), retry(seconds(100)), at(0));
        assert_eq!(parked.wait_of(part(1), at(1_000_000)), Some(SOON));
        assert_eq!(parked.wait_of(part(0), at(1_000_000)), None);
    }

    #[test]
    fn nobody_waits_longer_than_the_delay_because_the_clock_was_set_back() {
        let mut parked = Parked::default();
        parked.park(part(0), retry(seconds(100)), at(100_000));
        parked.park(part(1), retry(seconds(51)), at(100_050));
        assert_eq!(parked.wait_of(part(0), at(50)), None, "it was away for as long as the broker made it wait");
        assert_eq!(parked.wait_of(part(2), at(50)), Some(seconds(51) + STEP));
        parked.park(part(2), retry(seconds(52)), at(50));
        assert_eq!(parked.wait_of(part(2), at(60)), Some(seconds(41) + STEP), "from then on the set clock counts");
        assert_eq!(parked.wait_of(part(1), at(60)), Some(seconds(40) + STEP));
    }
}
