//! The faults that the fault suite ordered from this process.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Step;
use crate::clock::Clock;

/// A way of breaking Switchboard that the suite's judge has to notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// One publish in ten is confirmed and not made.
    DropConfirm,
    /// Messages for the spool are accepted and not written.
    SkipSpool,
    /// Deliveries are taken off their queues before they are handled.
    AckEarly,
    /// No turn is remembered.
    ForgetTurns,
    /// No send is remembered.
    ForgetSends,
    /// Messages change places.
    Shuffle,
}

impl Sabotage {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "drop_confirm" => Self::DropConfirm,
            "skip_spool" => Self::SkipSpool,
            "ack_early" => Self::AckEarly,
            "forget_turns" => Self::ForgetTurns,
            "forget_sends" => Self::ForgetSends,
            "shuffle" => Self::Shuffle,
            _ => return None,
        })
    }
}

/// Orders for one process, as in `kill=sent:17,break=ack_early,clock=/tmp/offset`.
#[derive(Debug, Default)]
pub struct Failpoints {
    /// The step to die at, and at which visit.
    kills: Vec<(Step, u32)>,
    sabotage: Option<Sabotage>,
    /// A file that holds by how many seconds the clock is wrong.
    clock: Option<PathBuf>,
    visits: [AtomicU32; Step::ALL.len()],
}

impl Failpoints {
    /// Reads orders; `None` when they are invalid.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut orders = Self::default();
        for order in text.split(',').filter(|order| !order.is_empty()) {
            match order.split_once('=')? {
                ("kill", place) => {
                    let (name, visit) = place.split_once(':')?;
                    let step = Step::ALL.into_iter().find(|step| step.as_str() == name)?;
                    orders.kills.push((step, visit.parse().ok()?));
                }
                ("break", name) => orders.sabotage = Some(Sabotage::parse(name)?),
                ("clock", path) => orders.clock = Some(path.into()),
                _ => return None,
            }
        }
        Some(orders)
    }
}

static ORDERS: OnceLock<Failpoints> = OnceLock::new();

/// Obeys `orders` until the process ends. Only the first call counts.
pub fn arm(orders: Failpoints) {
    drop(ORDERS.set(orders));
}

/// The clock to use: the machine's, shifted as ordered.
#[must_use]
pub fn clock() -> Clock {
    let machine = Clock::system();
    match ORDERS.get().and_then(|orders| orders.clock.as_deref()) {
        None => machine,
        Some(path) => Clock::from_fn(move || {
            let now = machine.now();
            now.checked_add(jiff::SignedDuration::from_secs(offset_s(path))).unwrap_or(now)
        }),
    }
}

fn offset_s(path: &Path) -> i64 {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

pub(super) fn reach(step: Step, last: impl FnOnce()) {
    let Some(orders) = ORDERS.get() else { return };
    let Some(visits) = Step::ALL.iter().position(|one| *one == step).and_then(|at| orders.visits.get(at)) else {
        return;
    };
    let visit = visits.fetch_add(1, Ordering::Relaxed) + 1;
    if orders.kills.contains(&(step, visit)) {
        last();
        // No destructor runs and nothing is flushed: to all other processes this is `kill -9`.
        std::process::abort();
    }
}

/// Whether `sabotage` was ordered.
#[must_use]
pub fn is_broken(sabotage: Sabotage) -> bool {
    ORDERS.get().is_some_and(|orders| orders.sabotage == Some(sabotage))
}
