//! Logs refused requests. Any caller can cause any number of them, so the first of a kind gets a line, and the others
//! are logged as sums, at most one line a minute for each kind.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::problem::Problem;

/// How far apart two lines about one kind are, at least 60 s.
const APART: Duration = Duration::from_secs(60);
/// How often is checked whether a sum is due, every 5 s.
const LOOK: Duration = Duration::from_secs(5);

/// One kind of refusal. All three fields have a few fixed values, and none of them comes from the request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Refused {
    /// The integration's id, or `unknown`.
    integration: String,
    kind: &'static str,
    problem: &'static str,
}

/// The kinds that were logged, and the counts that are not logged yet.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<Refused, Told>>);

#[derive(Debug)]
struct Told {
    at: Instant,
    untold: u64,
}

impl Refusals {
    /// Logs a refusal, or adds it to the sum of its kind.
    pub(crate) fn tell(&self, integration: &str, kind: &'static str, problem: &Problem) {
        let refused = Refused { integration: integration.to_owned(), kind, problem: problem.name() };
        if self.is_first(refused, Instant::now()) {
            warn!(integration.id = integration, kind, problem = problem.name(), detail = %problem, "webhook refused");
        }
    }

    /// Logs the sums when they are due. Never returns.
    pub(crate) async fn sum_up(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            for (Refused { integration, kind, problem }, count) in self.sums(Instant::now()) {
                warn!(integration.id = integration, kind, problem, count, "more webhooks refused");
            }
        }
    }

    fn is_first(&self, refused: Refused, now: Instant) -> bool {
        let mut told = self.told();
        let known = told.get_mut(&refused).map(|told| told.untold += 1);
        if known.is_none() {
            told.insert(refused, Told { at: now, untold: 0 });
        }
        known.is_none()
    }

    /// The sums that are due now. A kind without a refusal for [`APART`] is forgotten: its next refusal is a first one
    /// again.
    fn sums(&self, now: Instant) -> Vec<(Refused, u64)> {
        let mut sums = Vec::new();
        self.told().retain(|refused, told| {
            if now.saturating_duration_since(told.at) < APART {
                return true;
            }
            let untold = std::mem::take(&mut told.untold);
            told.at = now;
            if untold > 0 {
                sums.push((refused.clone(), untold));
            }
            untold > 0
        });
        sums
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<Refused, Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(integration: &str) -> Refused {
        Refused { integration: integration.to_owned(), kind: "message", problem: "forbidden" }
    }

    #[test]
    fn b11_the_first_of_a_kind_is_told_at_once_and_the_others_as_a_sum_a_minute() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(refusals.is_first(refused("a"), at(0)));
        assert!((0..23_885).all(|_| !refusals.is_first(refused("a"), at(5))));
        assert!(refusals.is_first(refused("b"), at(5)), "another kind");
        assert_eq!(refusals.sums(at(59)), []);
        assert_eq!(refusals.sums(at(60)), [(refused("a"), 23_885)]);
        assert!(!refusals.is_first(refused("a"), at(61)));
        assert_eq!(refusals.sums(at(119)), [], "b was told once, and nothing more came");
        assert!(refusals.is_first(refused("b"), at(119)), "it was forgotten");
        assert_eq!(refusals.sums(at(120)), [(refused("a"), 1)]);
        assert_eq!(refusals.sums(at(180)), []);
        assert!(refusals.is_first(refused("a"), at(181)));
    }
}
