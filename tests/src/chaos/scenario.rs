//! The scenarios, and the script of faults that a seed makes for each.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::Backend;
use super::fault::Fault;
use super::fault::Kind::{
    self, AssistantError, AssistantHang, AssistantNonsense, AssistantReset, BrokerAlarm, BrokerCut, BrokerKill,
    BrokerOutage, BrokerRestart, ClockJump, Freeze, Kill, NodeLoss, PartitionHangs, PartitionLost, ProviderError,
    ProviderHang, ProviderHangBefore, ProviderReset, Quirks, SessionsExpire, StoreCut, StoreDemoted, StoreKill,
    StoreRestart, Strangers, Terminate, Throttle, Workers,
};
use super::site::Mortal;
use crate::servers::Release;

/// A scenario: its traffic, its faults and its limits.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The name in the table and on the command line.
    pub name: &'static str,
    /// Whether the scenario is possible with one embedded process.
    pub(super) is_for_embedded: bool,
    /// Whether the scenario is possible on RabbitMQ and Redis.
    pub(super) is_for_servers: bool,
    /// The share of all texts, in percent.
    pub(super) share: u64,
    /// The share of all kills, in percent. Other faults are not included.
    pub(super) kills: u32,
    /// The other faults.
    pub(super) faults: &'static [Kind],
    /// The time between two faults.
    pub(super) every: Duration,
    /// The fraction of webhooks that are repeated, 0 to 1.
    pub(super) duplicates: f64,
    /// Whether the assistant may be away for so long that a customer is told so.
    pub(super) may_fail: bool,
    /// Whether the faults may make a worker ask a turn twice.
    pub(super) may_ask_twice: bool,
    /// Whether the faults take seconds. They then strike one after another while the customers text.
    pub(super) is_slow: bool,
    /// The least time for which customers text.
    pub(super) at_least: Duration,
    /// The role that dies at these steps, and no other; `None` if all roles may die.
    pub(super) mortal: Option<Mortal>,
    /// The roles of its processes on servers.
    pub(super) roles: &'static [&'static str],
    /// The seconds by which the clock of the second sender is ahead.
    pub(super) second_clock_s: i64,
    /// Whether Twilio's list and callbacks are late from the start.
    pub(super) is_twilio_late: bool,
    /// Whether the spool has very little room.
    pub(super) is_disk_small: bool,
    /// Whether RabbitMQ is a cluster of three.
    pub(super) is_clustered: bool,
    /// Whether three of a hundred calls to the provider fail: with 429, with 500, or with their answer lost.
    pub(super) is_provider_flaky: bool,
    /// The longest time without an outgoing text while customers text.
    pub(super) longest_gap: Option<Duration>,
    /// The part of Switchboard that is broken on purpose, in tests of the suite.
    pub(super) sabotage: Option<&'static str>,
}

const QUIET: Scenario = Scenario {
    name: "",
    is_for_embedded: true,
    is_for_servers: true,
    share: 5,
    kills: 0,
    faults: &[],
    every: Duration::from_secs(4),
    duplicates: 0.02,
    may_fail: false,
    may_ask_twice: true,
    is_slow: false,
    at_least: Duration::from_secs(4),
    mortal: None,
    roles: &["ingress", "worker", "sender"],
    second_clock_s: 0,
    is_twilio_late: false,
    is_disk_small: false,
    is_clustered: false,
    is_provider_flaky: false,
    longest_gap: None,
    sabotage: None,
};

impl Scenario {
    /// All scenarios.
    #[must_use]
    pub fn all() -> Vec<Self> {
        [both(), on_servers(), in_part(), storms()].concat()
    }

    /// This scenario on a Switchboard that is broken on purpose in the way `how`.
    #[must_use]
    pub fn sabotaged(self, how: &'static str) -> Self {
        Self { sabotage: Some(how), ..self }
    }

    /// The reason why the scenario cannot run on this machine, if there is one.
    #[must_use]
    pub fn skipped(&self) -> Option<&'static str> {
        let is_missing = self.is_clustered && Release::newer().is_none();
        is_missing.then_some("no newer RabbitMQ here, `scripts/newer-rabbitmq install` makes one")
    }

    /// Whether the scenario is possible on `backend`.
    #[must_use]
    pub fn is_for(&self, backend: Backend) -> bool {
        match backend {
            Backend::Embedded => self.is_for_embedded,
            Backend::Servers => self.is_for_servers,
        }
    }

    /// The faults and their times, with `kills` at random moments. The same seed makes the same script.
    pub(super) fn script(&self, seed: u64, duration: Duration, kills: u32) -> Vec<(Duration, Fault)> {
        let mut dice = StdRng::seed_from_u64(seed);
        let others =
            if self.faults.is_empty() { 0 } else { (duration.as_secs_f64() / self.every.as_secs_f64()) as usize };
        let mut kinds: Vec<_> =
            self.faults.iter().copied().cycle().take(others.max(self.faults.len())).enumerate().collect();
        kinds.extend((0..kills as usize).map(|turn| (turn, Kill)));
        let count = kinds.len() as f64;
        let mut when = |place: usize| {
            let share = if self.is_slow {
                (place as f64 + dice.random_range(0.1..0.3)) / count
            } else {
                dice.random_range(0.02..0.98)
            };
            duration.mul_f64(share)
        };
        let mut times: Vec<_> = (0..kinds.len()).map(&mut when).collect();
        times.sort_unstable();
        // A single kind of fault keeps its order: worker counts, and the nodes that are lost.
        if self.faults.len() != 1 || kills > 0 {
            kinds.shuffle(&mut dice);
        }
        times.into_iter().zip(kinds).map(|(when, (turn, kind))| (when, kind.roll(turn, &mut dice))).collect()
    }
}

const ON_SERVERS: Scenario = Scenario { is_for_embedded: false, ..QUIET };

fn both() -> Vec<Scenario> {
    let second = Duration::from_secs(1);
    vec![
        Scenario { name: "kills", share: 45, kills: 80, ..QUIET },
        Scenario { name: "duplicates", share: 10, duplicates: 0.5, may_ask_twice: false, ..QUIET },
        Scenario { name: "terminations", faults: &[Terminate], every: 2 * second, ..QUIET },
        Scenario {
            name: "assistant",
            faults: &[AssistantError, AssistantHang, AssistantNonsense, AssistantReset, SessionsExpire],
            every: second,
            may_fail: true,
            ..QUIET
        },
        Scenario {
            name: "provider",
            faults: &[Throttle, ProviderError, ProviderHang, ProviderHangBefore, ProviderReset],
            every: second,
            ..QUIET
        },
        Scenario {
            name: "faults",
            share: 30,
            faults: &[Kill],
            every: second * 3 / 2,
            is_provider_flaky: true,
            ..QUIET
        },
        Scenario {
            name: "strangers",
            faults: &[Strangers],
            every: 8 * second,
            is_slow: true,
            at_least: 50 * second,
            longest_gap: Some(15 * second),
            ..QUIET
        },
        Scenario { name: "clock", kills: 5, faults: &[ClockJump], every: 2 * second, ..QUIET },
    ]
}

fn on_servers() -> Vec<Scenario> {
    let second = Duration::from_secs(1);
    let broker = &[BrokerRestart, BrokerKill, BrokerCut, BrokerAlarm];
    vec![
        Scenario { name: "broker", faults: broker, share: 10, ..ON_SERVERS },
        Scenario { name: "store", faults: &[StoreRestart, StoreKill, StoreCut], ..ON_SERVERS },
        Scenario { name: "workers", faults: &[Workers], every: Duration::from_secs(2), ..ON_SERVERS },
        Scenario { name: "spool", ..outages() },
        Scenario { name: "disk", is_disk_small: true, ..outages() },
        Scenario {
            name: "cluster",
            faults: &[NodeLoss],
            every: 40 * second,
            is_slow: true,
            at_least: 130 * second,
            is_clustered: true,
            longest_gap: Some(15 * second),
            ..ON_SERVERS
        },
    ]
}

/// Scenarios in which one part of the environment is sick or misleading, while the rest works.
fn in_part() -> Vec<Scenario> {
    let second = Duration::from_secs(1);
    let sick_partition = Scenario {
        every: 75 * second,
        is_slow: true,
        at_least: 150 * second,
        longest_gap: Some(15 * second),
        ..ON_SERVERS
    };
    let pairs = &["ingress", "worker", "worker", "sender", "sender"];
    let doubts = Scenario { at_least: 30 * second, mortal: Some(("sender", &["sending", "sent"])), ..ON_SERVERS };
    vec![
        Scenario { name: "leaderless", faults: &[PartitionLost], ..sick_partition.clone() },
        Scenario { name: "hanging", faults: &[PartitionHangs], ..sick_partition.clone() },
        Scenario {
            name: "sick-cluster",
            faults: &[PartitionLost, PartitionHangs],
            is_clustered: true,
            ..sick_partition
        },
        Scenario {
            name: "frozen",
            faults: &[Freeze],
            every: 10 * second,
            is_slow: true,
            at_least: 40 * second,
            roles: pairs,
            ..ON_SERVERS
        },
        Scenario {
            name: "demoted",
            faults: &[StoreDemoted],
            every: 25 * second,
            is_slow: true,
            at_least: 50 * second,
            longest_gap: Some(15 * second),
            ..ON_SERVERS
        },
        Scenario {
            name: "two-clocks",
            faults: &[ProviderHang],
            every: 5 * second,
            roles: pairs,
            second_clock_s: 540,
            is_twilio_late: true,
            ..doubts.clone()
        },
        Scenario { name: "words", faults: &[Quirks], every: 6 * second, ..doubts },
    ]
}

/// Outages of the broker, during which ingress dies on its spool.
fn outages() -> Scenario {
    let second = Duration::from_secs(1);
    Scenario {
        share: 10,
        faults: &[BrokerOutage],
        every: 15 * second,
        is_slow: true,
        at_least: 15 * second,
        mortal: Some(("ingress", &["spooling", "spooled", "accepted"])),
        ..ON_SERVERS
    }
}

/// Many faults together. Clock jumps are left out on servers, because the servers' clocks do not jump with ours.
fn storms() -> Vec<Scenario> {
    let storm = Scenario { name: "storm", kills: 15, may_fail: true, ..QUIET };
    vec![
        Scenario {
            share: 10,
            is_for_embedded: false,
            faults: &[
                Terminate,
                BrokerCut,
                BrokerKill,
                StoreKill,
                StoreCut,
                AssistantError,
                AssistantHang,
                ProviderError,
                ProviderReset,
                Throttle,
                SessionsExpire,
                Workers,
            ],
            ..storm.clone()
        },
        Scenario {
            share: 25,
            is_for_servers: false,
            faults: &[
                Terminate,
                AssistantError,
                AssistantHang,
                ProviderError,
                ProviderReset,
                Throttle,
                SessionsExpire,
                ClockJump,
            ],
            ..storm
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_script() {
        for scenario in Scenario::all() {
            let script = |seed| scenario.script(seed, Duration::from_secs(30), 20);
            assert_eq!(script(7), script(7), "{}", scenario.name);
            assert!(script(7).len() == 20 || script(7) != script(8), "{}", scenario.name);
            assert!(script(7).is_sorted_by_key(|(when, _)| *when));
        }
    }

    #[test]
    fn all_texts_and_kills_are_shared_out() {
        for backend in [Backend::Embedded, Backend::Servers] {
            let scenarios: Vec<_> = Scenario::all().into_iter().filter(|one| one.is_for(backend)).collect();
            assert!(scenarios.iter().map(|one| one.share).sum::<u64>() >= 100, "{backend:?}");
            assert_eq!(scenarios.iter().map(|one| one.kills).sum::<u32>(), 100, "{backend:?}");
        }
    }
}
