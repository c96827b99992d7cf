//! The parts of a conversation that wait at the broker, in order: those behind a parked part wait with it.

use std::time::Duration;

use common::clock::Timestamp;
use common::message::MessageId;
use serde::{Deserialize, Serialize};

/// Who follows comes back this much later than the one ahead.
const STEP: Duration = Duration::from_secs(1);
/// Who is late is looked for this often.
const LATE: Duration = Duration::from_secs(30);
/// Who is later than this was lost, or set aside by somebody else: RabbitMQ's delays are up to an hour too long.
const LOST: Duration = Duration::from_secs(90 * 60);

/// The parked parts of one conversation, first to go first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Parked(Vec<Place>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    part: MessageId,
    due_at: Timestamp,
}

impl Parked {
    /// How long `part` has to wait, for the one ahead of it or because it came back too early: RabbitMQ cuts delays
    /// to an hour. `None` when it may go.
    pub(crate) fn wait_of(&self, part: MessageId, now: Timestamp) -> Option<Duration> {
        let ahead = self.0.iter().take_while(|place| place.part != part);
        if let Some(ahead) = ahead.filter(|place| until(now, place.due_at + LOST) > Duration::ZERO).last() {
            let rest = until(now, ahead.due_at);
            return Some(if rest.is_zero() { LATE } else { rest + STEP });
        }
        let own = self.0.iter().find(|place| place.part == part)?;
        Some(until(now, own.due_at)).filter(|rest| !rest.is_zero())
    }

    /// Gives `part` a place at the end, or keeps the one it has; it comes back after `delay`.
    pub(crate) fn park(&mut self, part: MessageId, delay: Duration, now: Timestamp) {
        let due_at = now.checked_add(delay).unwrap_or(Timestamp::MAX - LOST);
        match self.0.iter_mut().find(|place| place.part == part) {
            Some(place) => place.due_at = due_at,
            None => self.0.push(Place { part, due_at }),
        }
    }

    /// Takes `part` out, and says whether it was there.
    pub(crate) fn leave(&mut self, part: MessageId) -> bool {
        let before = self.0.len();
        self.0.retain(|place| place.part != part);
        self.0.len() < before
    }
}

fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use common::message::IntegrationId;

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

    #[test]
    fn everybody_waits_for_the_one_ahead() {
        let mut parked = Parked::default();
        assert_eq!(parked.wait_of(part(0), at(0)), None);
        parked.park(part(0), seconds(100), at(0));
        assert_eq!(parked.wait_of(part(0), at(100)), None, "the first waits for nobody");
        assert_eq!(parked.wait_of(part(0), at(99)), Some(seconds(1)), "but no shorter than it was told");
        assert_eq!(parked.wait_of(part(1), at(10)), Some(seconds(91)));
        parked.park(part(1), seconds(91), at(10));
        assert_eq!(parked.wait_of(part(2), at(10)), Some(seconds(92)));
        parked.park(part(0), seconds(50), at(100));
        assert_eq!(parked.wait_of(part(1), at(101)), Some(seconds(50)), "parked again it keeps its place");
        assert_eq!(parked.wait_of(part(1), at(160)), Some(LATE));
        assert!(parked.leave(part(0)));
        assert_eq!(parked.wait_of(part(1), at(160)), None);
        assert!(!parked.leave(part(0)));
    }

    #[test]
    fn a_part_that_never_comes_back_does_not_hold_the_others_for_ever() {
        let mut parked = Parked::default();
        parked.park(part(0), seconds(100), at(0));
        assert_eq!(parked.wait_of(part(1), at(100 + 5399)), Some(LATE));
        assert_eq!(parked.wait_of(part(1), at(100 + 5400)), None);
        parked.park(part(2), Duration::MAX, at(0));
        assert!(parked.wait_of(part(1), at(9000)).is_some(), "the longest delay is survived");
    }
}
