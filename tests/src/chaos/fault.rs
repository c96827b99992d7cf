//! The faults, and the code that causes them.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use simulator::{CallbackFrom, Fault as Bad, FaultPlan, Route, TwilioQuirks};
use tokio::time::sleep;

use super::servers::Servers;
use super::site::{INTEGRATION, PARTITIONS, Site};
use crate::strangers::{Stranger, besiege};

/// The length of an outage of the broker.
const BROKER_AWAY: Duration = Duration::from_secs(3);
/// The longest wait until a small disk is full. If it takes longer, the judge reports it.
const LONGEST_FILLING: Duration = Duration::from_secs(20);
/// The time after which ingress is draining its spool.
const DRAINING: Duration = Duration::from_millis(300);
/// The most seconds that a clock jumps ahead, and the most that it jumps back. A message that was parked before a jump
/// back waits that much longer.
const LONGEST_JUMP_S: i64 = 600;
const LONGEST_JUMP_BACK_S: i64 = 30;

/// The time for which a partition is sick. It is longer than the longest gap that is allowed.
const SICK: Duration = Duration::from_secs(60);
/// The longest time for which a process is frozen. RabbitMQ takes a process for dead after 10 to 20 s.
const FROZEN: Duration = Duration::from_secs(30);
/// The number of strangers, which is more than the 1,024 connections of ingress, and the time for which they stay.
const STRANGERS: usize = 1200;
const SIEGE: Duration = Duration::from_secs(5);
/// The delay of Twilio's list, in ms. It is shorter than the 30 s after which the sender reads the list.
const LIST_LAG_MS: u64 = 10_000;
/// The delay of Twilio's callbacks, in ms. It is longer than those 30 s.
const CALLBACK_DELAY_MS: u64 = 45_000;

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `kill -9` of one of our processes.
    Kill,
    /// SIGTERM to one of our processes.
    Terminate,
    /// An orderly restart of RabbitMQ.
    BrokerRestart,
    /// `kill -9` of RabbitMQ, then a start.
    BrokerKill,
    /// `kill -9` of RabbitMQ. While it is away, `kill -9` of ingress again and again, and once more while it drains its
    /// spool.
    BrokerOutage,
    /// `kill -9` of a node of the cluster, each node in turn.
    NodeLoss,
    /// All connections to RabbitMQ are closed.
    BrokerCut,
    /// RabbitMQ is short of memory and blocks publishers.
    BrokerAlarm,
    /// An orderly restart of Redis.
    StoreRestart,
    /// `kill -9` of Redis, then a start.
    StoreKill,
    /// All connections to Redis are closed.
    StoreCut,
    /// Redis becomes a replica of another server. Connections to it stay open; new ones lead to that server.
    StoreDemoted,
    /// A partition has no leader for a while, an inbound and an outbound one in turn. Each role is killed during that
    /// time.
    PartitionLost,
    /// The leader of a partition hangs for a while, and each role is killed during that time.
    PartitionHangs,
    /// One of our processes is frozen for a while (SIGSTOP): it keeps its connections.
    Freeze,
    /// Twilio changes texts, lists and callbacks in one of its documented ways, each in turn.
    Quirks,
    /// More strangers at the front door than it has connections, a different kind each time.
    Strangers,
    /// The assistant answers 5xx.
    AssistantError,
    /// The assistant answers too late.
    AssistantHang,
    /// The assistant's JSON is cut off.
    AssistantNonsense,
    /// The assistant's connection breaks.
    AssistantReset,
    /// The assistant has forgotten its sessions.
    SessionsExpire,
    /// The provider answers 429, with or without `Retry-After`.
    Throttle,
    /// The provider answers 5xx.
    ProviderError,
    /// The provider accepts and answers too late.
    ProviderHang,
    /// The provider takes the call and hangs, without accepting, until it breaks off.
    ProviderHangBefore,
    /// The provider's connection breaks, before or after it accepted.
    ProviderReset,
    /// The number of workers changes: 4, 2, 1 in turn.
    Workers,
    /// The clocks of all our processes jump.
    ClockJump,
}

/// A fault with all its parameters.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    /// `kill -9` of the process with this number, modulo the number of processes.
    Kill(usize),
    /// SIGTERM to the process with this number, modulo the number of processes.
    Terminate(usize),
    /// A fault of a server.
    Server(Kind),
    /// An outage of RabbitMQ, during which ingress is killed this many times.
    Outage(u32),
    /// The loss of this node of the cluster.
    Node(usize),
    /// A queue without a leader, or with a leader that hangs.
    Partition { queue: String, hangs: bool },
    /// A freeze, for this time, of the process with this number, modulo the number of processes.
    Freeze(usize, Duration),
    /// These quirks of Twilio, from now on.
    Quirks(TwilioQuirks),
    /// Strangers of this kind, who come to the front door and leave again.
    Strangers(Stranger),
    /// Failing calls of a simulated service.
    Service(Route, FaultPlan),
    /// The end of all the assistant's sessions.
    SessionsExpire,
    /// This many workers.
    Workers(usize),
    /// A jump of the clocks by this many seconds.
    Clock(i64),
}

impl Kind {
    /// The `turn`th fault of this kind, with random parameters.
    pub(super) fn roll(self, turn: usize, dice: &mut StdRng) -> Fault {
        let times = dice.random_range(1..=4);
        match self {
            Self::Kill => Fault::Kill(dice.random_range(0..1000)),
            Self::Terminate => Fault::Terminate(dice.random_range(0..1000)),
            Self::BrokerRestart
            | Self::BrokerKill
            | Self::BrokerCut
            | Self::BrokerAlarm
            | Self::StoreRestart
            | Self::StoreKill
            | Self::StoreCut
            | Self::StoreDemoted => Fault::Server(self),
            Self::PartitionLost | Self::PartitionHangs => {
                let stage = if turn.is_multiple_of(2) { "inbound" } else { "outbound" };
                let queue = format!("switchboard.{stage}.{}", dice.random_range(0..PARTITIONS));
                Fault::Partition { queue, hangs: self == Self::PartitionHangs }
            }
            Self::Freeze => Fault::Freeze(dice.random_range(0..1000), FROZEN.mul_f64(dice.random_range(0.3..1.0))),
            Self::Quirks => Fault::Quirks(quirks(turn)),
            Self::Strangers => Fault::Strangers(Stranger::ALL[turn % Stranger::ALL.len()]),
            Self::BrokerOutage => Fault::Outage(times),
            Self::NodeLoss => Fault::Node(turn),
            Self::AssistantError => assistant(Bad::status(if dice.random() { 500 } else { 503 }).times(times)),
            Self::AssistantHang => assistant(Bad::delay(Duration::from_secs(7)).times(times)),
            Self::AssistantNonsense => assistant(Bad::wrong_json().times(times)),
            Self::AssistantReset => assistant(reset(dice).times(times)),
            Self::SessionsExpire => Fault::SessionsExpire,
            Self::Throttle => {
                let hint_s = dice.random_range(0..3);
                let refusal = if hint_s == 0 { Bad::status(429) } else { Bad::retry_after(429, hint_s) };
                provider(refusal.times(times))
            }
            Self::ProviderError => provider(Bad::status(if dice.random() { 500 } else { 503 }).times(times)),
            Self::ProviderHang => provider(Bad::delay(Duration::from_secs(17)).times(times)),
            Self::ProviderHangBefore => provider(Bad::HangBeforeMs(17_000).times(times)),
            Self::ProviderReset => provider(reset(dice).times(times)),
            Self::Workers => Fault::Workers(match turn % 3 {
                0 => 4,
                1 => 2,
                _ => 1,
            }),
            Self::ClockJump => {
                let is_back = dice.random_ratio(1, 3);
                let range = if is_back { -LONGEST_JUMP_BACK_S..=-1 } else { 1..=LONGEST_JUMP_S };
                Fault::Clock(dice.random_range(range))
            }
        }
    }
}

fn reset(dice: &mut StdRng) -> Bad {
    if dice.random() { Bad::DropBefore } else { Bad::DropAfter }
}

/// Fails more calls than a turn's retries, so that some turns fail for good.
fn assistant(mut plan: FaultPlan) -> Fault {
    plan.times = plan.times.map(|times| times * 3);
    Fault::Service(Route::AssistantMessage, plan)
}

fn provider(plan: FaultPlan) -> Fault {
    Fault::Service(Route::TwilioSend, plan)
}

/// Makes three of a hundred calls to the provider fail, in three different ways.
pub(super) fn make_provider_flaky(simulator: &simulator::Simulator) {
    for fault in [Bad::status(429), Bad::status(500), Bad::DropAfter] {
        simulator.fail(Route::TwilioSend, fault.with_chance(0.01));
    }
}

impl Fault {
    /// Causes the fault, and returns once it is over or under way.
    pub(super) async fn strike(self, site: &mut Site) {
        match self {
            Self::Kill(which) => site.pick(which).kill(),
            Self::Terminate(which) => site.pick(which).terminate(),
            other => {
                site.toll.strike(|counts| counts.other_faults += 1);
                other.strike_elsewhere(site).await;
            }
        }
    }

    async fn strike_elsewhere(self, site: &mut Site) {
        match self {
            Self::Kill(_) | Self::Terminate(_) => {}
            Self::Server(kind) => on_servers(site, move |servers| servers.strike(kind)).await,
            Self::Node(which) => on_servers(site, move |servers| servers.lose_node(which)).await,
            Self::Outage(kills) => outage(site, kills).await,
            Self::Service(route, plan) => site.simulator.fail(route, plan),
            Self::SessionsExpire => site.simulator.assistant().expire_sessions(),
            Self::Workers(count) => site.have_workers(count).await,
            Self::Partition { queue, hangs } => sick_partition(site, queue, hangs).await,
            Self::Freeze(which, time) => site.pick(which).freeze(time),
            Self::Quirks(quirks) => site.simulator.set_twilio_quirks(quirks),
            Self::Strangers(kind) => siege(site, kind).await,
            Self::Clock(jump_s) => site.let_clock_jump(jump_s),
        }
    }
}

/// Applies a fault to the servers, and returns once they are back.
async fn on_servers(site: &Site, strike: impl FnOnce(&Servers) -> anyhow::Result<()> + Send + 'static) {
    let servers = Arc::clone(site.servers.as_ref().expect("servers break only where there are some"));
    let struck = tokio::task::spawn_blocking(move || strike(&servers));
    struck.await.expect("it does not panic").expect("the server obeys");
    // The servers are back from here on.
    site.toll.strike(|_| ());
}

/// Makes `queue` sick for a while, and kills each role during that time.
async fn sick_partition(site: &Site, queue: String, hangs: bool) {
    let sick = queue.clone();
    on_servers(site, move |servers| servers.make_sick(&sick, hangs)).await;
    for role in ["worker", "sender", "ingress"] {
        sleep(SICK / 5).await;
        site.kill_role(role);
    }
    sleep(SICK * 2 / 5).await;
    on_servers(site, move |servers| servers.make_well(&queue, hangs)).await;
}

async fn siege(site: &Site, kind: Stranger) {
    let strangers = besiege(kind, &site.ingress, INTEGRATION, STRANGERS).await;
    sleep(SIEGE).await;
    drop(strangers);
}

/// Twilio's quirks, one for each turn. Its list is late, too, and its callbacks come after the sender has read the
/// list.
fn quirks(turn: usize) -> TwilioQuirks {
    match turn % 4 {
        0 => TwilioQuirks { trial: true, smart_encoding: true, ..late() },
        1 => TwilioQuirks { appended: Some(" Reply STOP to end".to_owned()), ..late() },
        2 => TwilioQuirks { redacted: Some(String::new()), ..late() },
        _ => TwilioQuirks { callback_from: CallbackFrom::Omitted, ..late() },
    }
}

/// A late list and late callbacks.
pub(super) fn late() -> TwilioQuirks {
    TwilioQuirks { list_lag_ms: LIST_LAG_MS, callback_delay_ms: CALLBACK_DELAY_MS, ..TwilioQuirks::default() }
}

async fn outage(site: &Site, kills: u32) {
    on_servers(site, Servers::take_broker_away).await;
    for _ in 0..kills {
        sleep(BROKER_AWAY / kills).await;
        site.kill_role("ingress");
    }
    // On a busy machine customers text more slowly, and a small disk takes longer to fill.
    let filled = async {
        while !site.is_disk_full() {
            sleep(DRAINING).await;
        }
        sleep(BROKER_AWAY / 2).await;
    };
    if site.has_small_disk() {
        drop(tokio::time::timeout(LONGEST_FILLING, filled).await);
    }
    on_servers(site, Servers::give_broker_back).await;
    sleep(DRAINING).await;
    site.kill_role("ingress");
}
