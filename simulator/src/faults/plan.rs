//! Fault plans that wait for a request. When several plans of a route could strike, the oldest one does.

use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use super::Fault;
use crate::route::Route;
use crate::world::lock;

/// A fault, and how often it strikes. A bare [`Fault`] strikes once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultPlan {
    /// The fault.
    pub fault: Fault,
    /// The number of requests that it still strikes; `None` means no limit.
    #[serde(default)]
    pub times: Option<u32>,
    /// The probability that it strikes a request, 0 to 1; `None` means always.
    #[serde(default)]
    pub chance: Option<f64>,
}

impl From<Fault> for FaultPlan {
    fn from(fault: Fault) -> Self {
        fault.times(1)
    }
}

/// All plans, in the order in which they were made.
#[derive(Debug)]
pub(crate) struct Faults(Mutex<State>);

#[derive(Debug)]
struct State {
    plans: Vec<(Route, FaultPlan)>,
    rng: StdRng,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(State { plans: Vec::new(), rng: StdRng::seed_from_u64(seed) }))
    }

    pub(crate) fn add(&self, route: Route, plan: FaultPlan) {
        lock(&self.0).plans.push((route, plan));
    }

    pub(crate) fn clear(&self) {
        lock(&self.0).plans.clear();
    }

    pub(crate) fn pending(&self) -> Vec<(Route, FaultPlan)> {
        lock(&self.0).plans.clone()
    }

    /// The fault that strikes this request, if there is one. It uses up one strike of a counted plan.
    pub(crate) fn strike(&self, route: Route) -> Option<Fault> {
        let State { plans, rng } = &mut *lock(&self.0);
        let (_, plan) = plans
            .iter_mut()
            .filter(|(on, plan)| *on == route && plan.times != Some(0))
            .find(|(_, plan)| plan.chance.is_none_or(|chance| rng.random::<f64>() < chance))?;
        plan.times = plan.times.map(|left| left.saturating_sub(1));
        let fault = plan.fault.clone();
        plans.retain(|(_, plan)| plan.times != Some(0));
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_fault_strikes_that_often_and_only_its_route() {
        let faults = Faults::new(7);
        faults.add(Route::TwilioSend, Fault::DropBefore.times(2));
        assert_eq!(faults.strike(Route::TwilioList), None);
        assert_eq!(faults.strike(Route::TwilioSend), Some(Fault::DropBefore));
        assert_eq!(faults.strike(Route::TwilioSend), Some(Fault::DropBefore));
        assert_eq!(faults.strike(Route::TwilioSend), None);
        assert!(faults.pending().is_empty());
    }

    #[test]
    fn the_same_seed_strikes_the_same_requests() {
        let strikes = |seed| -> Vec<bool> {
            let faults = Faults::new(seed);
            faults.add(Route::Token, Fault::DropAfter.with_chance(0.5));
            (0..64).map(|_| faults.strike(Route::Token).is_some()).collect()
        };
        assert_eq!(strikes(3), strikes(3));
        assert_ne!(strikes(3), strikes(4));
        assert!(strikes(3).contains(&true) && strikes(3).contains(&false));
    }

    #[test]
    fn plans_strike_in_the_order_in_which_they_were_made() {
        let faults = Faults::new(1);
        faults.add(Route::TwilioSend, Fault::status(500).into());
        faults.add(Route::TwilioSend, Fault::status(429).into());
        assert_eq!(faults.strike(Route::TwilioSend), Some(Fault::status(500)));
        assert_eq!(faults.strike(Route::TwilioSend), Some(Fault::status(429)));
    }
}
