//! The texts that are on their way. Each must reach the provider once, and the texts of a customer must arrive in
//! order.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::meter::Meter;
use crate::pace::Arrivals;

/// Texts on their way.
#[derive(Debug)]
pub(crate) struct Expected {
    waiting: Mutex<HashMap<String, VecDeque<Instant>>>,
    meter: Meter,
    arrivals: Arrivals,
    outstanding: watch::Sender<i64>,
    unexpected: watch::Sender<u64>,
}

impl Expected {
    /// No texts yet. `arrivals` is told of each text that comes through.
    pub(crate) fn new(meter: Meter, arrivals: Arrivals) -> Self {
        let (outstanding, unexpected) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { waiting: Mutex::default(), meter, arrivals, outstanding, unexpected }
    }

    /// Notes that a text of `customer`, due at `due`, is about to be posted.
    pub(crate) fn post(&self, customer: &str, due: Instant) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(customer.to_owned()).or_default().push_back(due);
        self.outstanding.send_modify(|count| *count += 1);
    }

    /// Notes that a reply to `customer` reached the provider at `now`.
    pub(crate) fn reply(&self, customer: &str, now: Instant) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let due = waiting.get_mut(customer).and_then(VecDeque::pop_front);
        drop(waiting);
        let Some(due) = due else {
            self.unexpected.send_modify(|count| *count += 1);
            return;
        };
        self.meter.note(due, now);
        self.arrivals.done();
        self.outstanding.send_modify(|count| *count -= 1);
    }

    /// Returns once every text has come through.
    pub(crate) async fn all_through(&self) {
        // The watch's sender is a field of `self`, so it is never closed here.
        self.outstanding.subscribe().wait_for(|count| *count == 0).await.ok();
    }

    /// The number of texts that are still on their way, and the number of replies without a text.
    pub(crate) fn wrong(&self) -> (i64, u64) {
        (*self.outstanding.borrow(), *self.unexpected.borrow())
    }

    /// The meter with all counts.
    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::Pace;

    #[tokio::test]
    async fn a_lost_and_a_repeated_reply_are_both_found() {
        let arrivals = Arrivals::start(Pace::InFlight(2), 60.0);
        let expected = Expected::new(Meter::start(60.0).unwrap(), arrivals);
        let due = Instant::now();
        expected.post("+1", due);
        expected.post("+2", due);
        expected.reply("+1", Instant::now());
        assert_eq!(expected.wrong(), (1, 0));
        expected.reply("+1", Instant::now());
        assert_eq!(expected.wrong(), (1, 1));
        expected.reply("+2", Instant::now());
        expected.all_through().await;
        assert_eq!(expected.wrong(), (0, 1));
    }
}
