//! Whether the roles of this process are ready, each on its own terms, and whether the process is alive.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Stage};
use message::clock::Clock;
use message::failure::Failure;
use store::Store;
use tokio::time::Instant;
use tracing::warn;
use work::Progress;
use work::spool_status::{Intake, SpoolState};

use super::CHECK_TIMEOUT;

/// A stage is stuck when messages have waited for this long and none of them moved. A partition is sick when nothing
/// has come from it for this long, not even a heartbeat.
const STUCK_AFTER: Duration = Duration::from_secs(120);
/// How many silent partitions a check names: the metrics have them all.
const NAMED: usize = 8;

/// What a process's readiness and liveness depend on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health {
    /// Checked by a real publish.
    pub broker: Arc<dyn Broker>,
    /// The ingress, if it is in this process: it can take messages while its spool can, also without the broker.
    pub intake: Option<Arc<Intake>>,
    /// Checked by a real write; ingress needs none.
    pub store: Option<Arc<dyn Store>>,
    /// The stages this process works on.
    pub stages: Vec<(Stage, Arc<Progress>)>,
    /// Tells how old messages are.
    pub clock: Clock,
    /// A stage that is stuck for this long fails liveness.
    pub dead_after: Duration,
}

/// A service whose readiness can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Ingress,
    Worker,
    Sender,
}

impl Role {
    pub(super) const ALL: [Self; 3] = [Self::Ingress, Self::Worker, Self::Sender];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Worker => "worker",
            Self::Sender => "sender",
        }
    }

    fn works_on(self, stage: Stage) -> bool {
        match self {
            Self::Ingress => false,
            Self::Worker => matches!(stage, Stage::Inbound | Stage::Receipts),
            Self::Sender => stage == Stage::Outbound,
        }
    }
}

/// The results of the checks, in words that name no peer; the log has the details.
#[derive(Debug)]
pub(super) struct Checked {
    /// Each check's name, and what is wrong.
    checks: Vec<(&'static str, Result<(), String>)>,
    /// Whether each role of this process is ready, in the order of [`Role::ALL`].
    roles: Vec<(Role, bool)>,
}

impl Checked {
    /// Whether this process should get traffic. Only an ingress gets any, so where there is one its readiness is the
    /// answer: it keeps texts while the other roles cannot work.
    pub(super) fn is_ready(&self) -> bool {
        match self.roles.iter().find(|(role, _)| *role == Role::Ingress) {
            Some((_, is_ready)) => *is_ready,
            None => self.checks.iter().all(|(_, checked)| checked.is_ok()),
        }
    }

    /// Whether `role` is ready; `None` if it is not in this process.
    pub(super) fn is_role_ready(&self, role: Role) -> Option<bool> {
        self.roles.iter().find(|(known, _)| *known == role).map(|(_, is_ready)| *is_ready)
    }

    pub(super) fn roles(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.roles.iter().map(|(role, is_ready)| (role.as_str(), *is_ready))
    }

    /// Each check's name and result: `ok`, or what is wrong.
    pub(super) fn words(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.checks.iter().map(|(name, checked)| (*name, checked.as_ref().err().map_or("ok", String::as_str)))
    }
}

impl Health {
    /// Runs every check that readiness depends on.
    pub(super) async fn check(&self) -> Checked {
        let store = async {
            match &self.store {
                Some(store) => Some(("store", within_time("store", store.check()).await)),
                None => None,
            }
        };
        let (broker, store) = tokio::join!(within_time("broker", self.broker.check()), store);
        let spool = self.intake.as_ref().map(|intake| intake.spool());
        let stages: Vec<_> =
            self.stages.iter().map(|(stage, progress)| (*stage, self.at_work(*stage, progress))).collect();
        let is_ready = |role: Role| {
            let mut own = stages.iter().filter(|(stage, _)| role.works_on(*stage)).peekable();
            match (role, spool) {
                // Either is enough: what one of them cannot take, the other can.
                (Role::Ingress, spool) => Some(broker.is_ok() || spool?.takes_messages()),
                _ if own.peek().is_none() => None,
                _ => Some(broker.is_ok() && !matches!(store, Some((_, Err(_)))) && own.all(|(_, well)| well.is_ok())),
            }
        };
        let is_known = |role: &Role| *role != Role::Ingress || self.intake.is_some();
        let roles = Role::ALL.into_iter().filter(is_known).filter_map(|role| Some((role, is_ready(role)?))).collect();
        let spool = spool.filter(|spool| *spool != SpoolState::Off).map(|spool| ("spool", spool_check(spool)));
        let stages = stages.into_iter().map(|(stage, well)| (stage.as_str(), well));
        let checks = std::iter::once(("broker", broker)).chain(spool).chain(store).chain(stages).collect();
        Checked { checks, roles }
    }

    /// Fails unless messages move, every partition is consumed, and something comes out of each.
    fn at_work(&self, stage: Stage, progress: &Progress) -> Result<(), String> {
        let now = Instant::now();
        if progress.is_stuck(now, STUCK_AFTER) {
            return Err(stuck(progress));
        }
        match self.broker.standing(stage).filter(|standing| !standing.sick.is_empty()) {
            Some(standing) => Err(standing.to_string()),
            None => all_speak(progress, now),
        }
    }

    /// The stages that have been stuck for so long that only a new process can help, each with what is wrong.
    pub(super) fn dead_stages(&self) -> Vec<(&'static str, String)> {
        let (now, limit) = (Instant::now(), self.dead_after);
        let dead = self.stages.iter().filter(|(_, progress)| progress.is_stuck(now, limit));
        dead.map(|(stage, progress)| (stage.as_str(), stuck(progress))).collect()
    }
}

/// Fails if nothing has come out of some partition for `STUCK_AFTER`.
fn all_speak(progress: &Progress, now: Instant) -> Result<(), String> {
    let pulse = progress.pulse();
    let silent = pulse.iter().flat_map(|pulse| pulse.silent(now, STUCK_AFTER));
    let named = silent.map(|(partition, silence)| Silent(partition, silence)).collect::<Vec<_>>();
    if named.is_empty() {
        return Ok(());
    }
    let first: Vec<_> = named.iter().take(NAMED).map(Silent::to_string).collect();
    let more = named.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(format!("nothing comes out of {}{more}", first.join(", ")))
}

/// A partition, and for how long nothing has come out of it.
struct Silent(usize, Duration);

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} for {} s", self.0, self.1.as_secs())
    }
}

fn stuck(progress: &Progress) -> String {
    format!("stuck: {} messages wait and none moves", progress.held().messages)
}

fn spool_check(spool: SpoolState) -> Result<(), String> {
    match spool {
        SpoolState::Off | SpoolState::Idle => Ok(()),
        SpoolState::InUse(messages) => Err(format!("in use: {messages} messages wait for the broker")),
        SpoolState::Full => Err("full".to_owned()),
        SpoolState::Failing => Err("failing: it cannot be written".to_owned()),
    }
}

async fn within_time(name: &str, check: impl Future<Output = Result<(), Failure>>) -> Result<(), String> {
    let Ok(checked) = tokio::time::timeout(CHECK_TIMEOUT, check).await else {
        warn!(check = name, "not ready: no answer in time");
        return Err("no answer in time".to_owned());
    };
    checked.map_err(|failure| {
        warn!(check = name, %failure, "not ready");
        format!("failing: {}", failure.kind.as_str())
    })
}
