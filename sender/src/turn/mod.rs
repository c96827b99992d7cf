//! When a part may go, and where it waits until then: behind the parked parts of its conversation, until a pause is
//! over, and at its number's rate.

use std::time::Duration;

use message::MessageId;
use message::clock::Timestamp;
use tokio::time::Instant;

use crate::parked::{Cause, Hold, Parked};
use crate::rate::{Number, Rates};

/// A part that has to wait longer than this, 5 s, is parked at the broker. RabbitMQ parks no message for less.
const PATIENCE: Duration = Duration::from_secs(5);

/// A part that could go now.
#[derive(Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) part: MessageId,
    pub(crate) number: &'a Number,
    /// How much of its number's sending time it takes.
    pub(crate) cost: Duration,
    /// The parts of its conversation that wait at the broker.
    pub(crate) parked: &'a Parked,
    /// How long its number, or the whole account, sends nothing.
    pub(crate) pause: Duration,
    /// How long nothing is sent between the two numbers of its conversation.
    pub(crate) pair_pause: Duration,
}

/// What `candidate` has to wait for; `None` when it may go, and then its turn is taken.
pub(crate) fn hold(rates: &Rates, candidate: &Candidate<'_>, now: Timestamp, steady: Instant) -> Option<Hold> {
    let &Candidate { part, number, cost, parked, pause, pair_pause } = candidate;
    let own = parked.hold_of(part, now);
    if !pause.is_zero() {
        rates.pause(number, pause, steady);
    }
    let floor = own.map_or(pair_pause, |hold| hold.delay.max(pair_pause));
    let delay = rates.take(number, part, cost, floor, steady);
    let cause = match own {
        Some(hold) if hold.cause == Cause::Behind || hold.delay == delay => hold.cause,
        _ if !pause.is_zero() || delay == pair_pause => Cause::Throttle,
        _ => Cause::Rate,
    };
    (!delay.is_zero()).then_some(Hold { delay, cause })
}

impl Hold {
    /// Whether the part rests in its lane, where it may wait for `in_lane`. A part behind another one of its
    /// conversation never does: that one may come back to the same lane.
    pub(crate) fn is_in_lane(&self, in_lane: Duration) -> bool {
        self.cause != Cause::Behind && self.delay <= PATIENCE.min(in_lane)
    }
}

#[cfg(test)]
mod tests;
