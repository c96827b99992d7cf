//! The pace of requests: one after the other, or at instants fixed beforehand.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::timeout_at;

/// The way in which requests arrive.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// Each request begins as soon as the one before it is done. This finds the maximum rate.
    Saturating,
    /// A new request begins whenever one came through, so that this many are on their way at a time.
    InFlight(u32),
    /// This many requests a second, whatever the state of the earlier ones.
    PerSecond(f64),
}

/// The instants at which requests begin. Clones share them.
#[derive(Debug, Clone)]
pub(crate) enum Arrivals {
    /// At once, until this instant.
    Now(Instant),
    /// Whenever there is room, until this instant.
    WithRoom(Arc<Semaphore>, Instant),
    /// At the scheduled instants.
    Scheduled(Arc<Mutex<mpsc::UnboundedReceiver<Instant>>>),
}

impl Arrivals {
    /// Starts now and ends after `seconds`.
    pub(crate) fn start(pace: Pace, seconds: f64) -> Self {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        match pace {
            Pace::Saturating => Self::Now(end),
            Pace::InFlight(most) => Self::WithRoom(Arc::new(Semaphore::new(most as usize)), end),
            Pace::PerSecond(rate) => Self::Scheduled(Arc::new(Mutex::new(schedule(rate, seconds)))),
        }
    }

    /// Waits for the next request and returns the instant from which it counts; `None` after the last one. A request
    /// that finds all connections busy still counts from its scheduled instant, so that the wait for a slow answer is
    /// included (coordinated omission).
    pub(crate) async fn next(&self) -> Option<Instant> {
        match self {
            Self::Now(end) => Some(Instant::now()).filter(|now| now < end),
            Self::WithRoom(room, end) => {
                let permit = timeout_at((*end).into(), room.acquire()).await.ok()?.ok()?;
                // `done` gives the permit back.
                permit.forget();
                Some(Instant::now()).filter(|now| now < end)
            }
            Self::Scheduled(instants) => instants.lock().await.recv().await,
        }
    }

    /// Makes room for another request.
    pub(crate) fn done(&self) {
        if let Self::WithRoom(room, _) = self {
            room.add_permits(1);
        }
    }
}

/// Sends evenly spaced instants when they are due. It sleeps in a thread of its own, because the runtime's timer has a
/// resolution of 1 ms.
fn schedule(rate: f64, seconds: f64) -> mpsc::UnboundedReceiver<Instant> {
    let (due, instants) = mpsc::unbounded_channel();
    let begin = Instant::now();
    thread::spawn(move || {
        for number in 0_u32.. {
            let offset_s = f64::from(number) / rate;
            let at = begin + Duration::from_secs_f64(offset_s);
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if offset_s >= seconds || due.send(at).is_err() {
                return;
            }
        }
    });
    instants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_late_taker_is_told_when_its_request_was_due() {
        let arrivals = Arrivals::start(Pace::PerSecond(1000.0), 0.05);
        let first = arrivals.next().await.unwrap();
        let mut instants = vec![first];
        while let Some(instant) = arrivals.next().await {
            assert!(instant <= Instant::now(), "nothing begins before it is due");
            instants.push(instant);
        }
        assert_eq!(instants.len(), 50);
        for pair in instants.windows(2) {
            assert_eq!((pair[1] - pair[0]).as_micros(), 1000);
        }
    }
}
