//! The state of the partitions of a stage that this process consumes: in a gauge, in readiness, and once per change in
//! the log.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Stage, Standing};

/// The state of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Not consumed yet, without a known fault.
    Waiting,
    Consumed,
    /// Not consumed, or delivers nothing: the reason.
    Failing(String),
}

#[derive(Debug, Clone)]
struct Partition {
    queue: String,
    state: State,
    /// Whether a consumed queue counted no consumer when it was last asked, although this process is one: the queue has
    /// no leader.
    was_leaderless: bool,
}

/// The state of one stage's partitions. Empty while the process does not subscribe to the stage.
#[derive(Debug)]
pub(super) struct Standings {
    stage: Stage,
    partitions: Mutex<Vec<Partition>>,
}

impl Standings {
    pub(super) fn new(stage: Stage) -> Self {
        Self { stage, partitions: Mutex::default() }
    }

    /// Starts over with `queues`, none of them consumed yet. Without any when a subscription ends.
    pub(super) fn begin(&self, queues: impl IntoIterator<Item = String>) {
        let waiting = |queue| Partition { queue, state: State::Waiting, was_leaderless: false };
        let mut partitions = self.lock();
        *partitions = queues.into_iter().map(waiting).collect();
        self.show(&partitions);
    }

    /// Its connection is lost, or not up yet. The log says so of the connection, not of each partition.
    pub(super) fn waits(&self, partition: u16) {
        self.change(partition, |one| match one.state {
            State::Consumed => State::Waiting,
            _ => one.state.clone(),
        });
    }

    pub(super) fn is_consumed(&self, partition: u16) {
        self.change(partition, |_| State::Consumed);
    }

    /// It cannot be consumed, because of `why`.
    pub(super) fn fails(&self, partition: u16, why: &str) {
        self.change(partition, |_| State::Failing(why.to_owned()));
    }

    /// Notes whether a consumed queue has a leader. A single look without one is ignored: an election takes a moment.
    pub(super) fn has_leader(&self, partition: u16, has_leader: bool) {
        self.change(partition, |one| {
            let was_leaderless = std::mem::replace(&mut one.was_leaderless, !has_leader);
            match &one.state {
                State::Consumed if !has_leader && was_leaderless => State::Failing(NO_LEADER.to_owned()),
                State::Failing(why) if has_leader && why == NO_LEADER => State::Consumed,
                state => state.clone(),
            }
        });
    }

    /// The state of all partitions together; `None` while the process does not subscribe.
    pub(super) fn sum(&self) -> Option<Standing> {
        let partitions = self.lock();
        let sick = partitions.iter().filter_map(|one| match &one.state {
            State::Failing(why) => Some(format!("{} {why}", one.queue)),
            _ => None,
        });
        let sick: Vec<_> = sick.collect();
        let waiting = count(&partitions, &State::Waiting);
        (!partitions.is_empty()).then(|| Standing { all: partitions.len(), waiting, sick })
    }

    fn change(&self, partition: u16, state: impl FnOnce(&mut Partition) -> State) {
        let mut partitions = self.lock();
        let Some(one) = partitions.get_mut(usize::from(partition)) else { return };
        let state = state(one);
        match (&one.state, &state) {
            (State::Failing(_), State::Failing(_)) => {}
            (_, State::Failing(why)) => {
                tracing::warn!(stage = self.stage.as_str(), queue = one.queue, "a partition is not consumed: {why}");
            }
            (State::Failing(_), State::Consumed) => {
                tracing::info!(stage = self.stage.as_str(), queue = one.queue, "a partition is consumed again");
            }
            _ => {}
        }
        if std::mem::replace(&mut one.state, state) != one.state {
            self.show(&partitions);
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "there are at most 1024")]
    fn show(&self, partitions: &[Partition]) {
        let (waiting, consumed) = (count(partitions, &State::Waiting), count(partitions, &State::Consumed));
        let failing = partitions.len() - waiting - consumed;
        for (state, count) in [("waiting", waiting), ("consumed", consumed), ("failing", failing)] {
            metrics::gauge!("switchboard_partitions", "stage" => self.stage.as_str(), "state" => state)
                .set(count as f64);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Partition>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const NO_LEADER: &str = "has no leader that answers";

fn count(partitions: &[Partition], state: &State) -> usize {
    partitions.iter().filter(|one| one.state == *state).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b1_a_sick_partition_is_named_and_the_others_are_counted() {
        let standings = Standings::new(Stage::Inbound);
        assert_eq!(standings.sum(), None);
        standings.begin((0..8).map(|number| format!("sb.inbound.{number}")));
        (0..8).for_each(|partition| standings.is_consumed(partition));
        standings.fails(3, "does not answer");
        standings.has_leader(4, false);
        let sick = vec!["sb.inbound.3 does not answer".to_owned()];
        assert_eq!(standings.sum(), Some(Standing { all: 8, waiting: 0, sick }), "an election takes a moment");
        standings.has_leader(4, false);
        standings.waits(3);
        standings.waits(5);
        let sum = standings.sum().unwrap();
        assert_eq!((sum.waiting, sum.sick.len()), (1, 2));
        assert_eq!(
            sum.to_string(),
            "5 of 8 partitions: sb.inbound.3 does not answer, sb.inbound.4 has no leader that answers"
        );
        standings.has_leader(4, true);
        (3..8).for_each(|partition| standings.is_consumed(partition));
        assert_eq!(standings.sum().unwrap().to_string(), "8 of 8 partitions");
        standings.begin(None);
        assert_eq!(standings.sum(), None);
    }
}
