//! What can go wrong, and how it is made to.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use simulator::{CallbackFrom, Fault as Bad, FaultPlan, Route, TwilioQuirks};
use tokio::time::sleep;

use super::servers::Servers;
use super::site::{INTEGRATION, PARTITIONS, Site};
use crate::strangers::{Stranger, besiege};

/// For how long a broker is away, before it is started again.
const BROKER_AWAY: Duration = Duration::from_secs(3);
/// The most that a small disk takes to fill; then the judge says that it did not.
const LONGEST_FILLING: Duration = Duration::from_secs(20);
/// After so long a spool is being drained.
const DRAINING: Duration = Duration::from_millis(300);
/// The most seconds that a clock jumps ahead, and back: what was parked before waits so much longer.
const LONGEST_JUMP_S: i64 = 600;
const LONGEST_JUMP_BACK_S: i64 = 30;

/// For how long a partition is sick: longer than nothing may go out.
const SICK: Duration = Duration::from_secs(60);
/// The longest that a process is frozen: RabbitMQ takes it for dead after 10 to 20 s.
const FROZEN: Duration = Duration::from_secs(30);
/// How many strangers come, more than the 1,024 connections that ingress has, and for how long.
const STRANGERS: usize = 1200;
const SIEGE: Duration = Duration::from_secs(5);
/// How late Twilio's list is: less than the 30 s after which the sender looks at it.
const LIST_LAG_MS: u64 = 10_000;
/// How late its callbacks are: later than that.
const CALLBACK_DELAY_MS: u64 = 45_000;

/// Kinds of faults.
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
    /// `kill -9` of RabbitMQ; meanwhile `kill -9` of ingress again and again, and once more while it drains its spool.
    BrokerOutage,
    /// A node of the cluster is lost by `kill -9`: each in turn.
    NodeLoss,
    /// All connections to RabbitMQ are closed.
    BrokerCut,
    /// RabbitMQ is short of memory: it blocks whoever publishes.
    BrokerAlarm,
    /// An orderly restart of Redis.
    StoreRestart,
    /// `kill -9` of Redis, then a start.
    StoreKill,
    /// All connections to Redis are closed.
    StoreCut,
    /// Redis becomes a replica of another one; connections to it stay open, new ones lead to that one.
    StoreDemoted,
    /// A partition has no leader for a while, an inbound and an outbound one in turn; each role is killed meanwhile.
    PartitionLost,
    /// The leader of a partition hangs, likewise.
    PartitionHangs,
    /// One of our processes is frozen for a while (SIGSTOP): it keeps its connections.
    Freeze,
    /// What Twilio makes of texts, lists and callbacks: another of its ways in turn.
    Quirks,
    /// More strangers at the front door than it has places, each time of another kind.
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
    /// So many workers from now on: 4, 2, 1 in turn.
    Workers,
    /// Every clock of ours jumps.
    ClockJump,
}

/// A fault in all particulars.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    /// `kill -9` of the process with this number, modulo how many there are.
    Kill(usize),
    /// SIGTERM to the process with this number, modulo how many there are.
    Terminate(usize),
    /// Something happens to a server.
    Server(Kind),
    /// RabbitMQ is away, and ingress dies so many times meanwhile.
    Outage(u32),
    /// This node of the cluster is lost.
    Node(usize),
    /// This queue has no leader, or one that hangs.
    Partition { queue: String, hangs: bool },
    /// The process with this number, modulo how many there are, is frozen for so long.
    Freeze(usize, Duration),
    /// Twilio is like this from now on.
    Quirks(TwilioQuirks),
    /// Strangers of this kind come to the front door, and go again.
    Strangers(Stranger),
    /// Calls of a simulated service fail.
    Service(Route, FaultPlan),
    /// The assistant's sessions are gone.
    SessionsExpire,
    /// So many workers.
    Workers(usize),
    /// The clocks jump by so many seconds.
    Clock(i64),
}

impl Kind {
    /// The `turn`th fault of this kind, as the dice fall.
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

/// More than a turn's retries, so that some turns fail for good.
fn assistant(mut plan: FaultPlan) -> Fault {
    plan.times = plan.times.map(|times| times * 3);
    Fault::Service(Route::AssistantMessage, plan)
}

fn provider(plan: FaultPlan) -> Fault {
    Fault::Service(Route::TwilioSend, plan)
}

/// Lets three of a hundred calls to the provider fail, each in another way.
pub(super) fn make_provider_flaky(simulator: &simulator::Simulator) {
    for fault in [Bad::status(429), Bad::status(500), Bad::DropAfter] {
        simulator.fail(Route::TwilioSend, fault.with_chance(0.01));
    }
}

impl Fault {
    /// Makes it happen, and returns once it has.
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

/// Does something to the servers, and returns once they are back.
async fn on_servers(site: &Site, strike: impl FnOnce(&Servers) -> anyhow::Result<()> + Send + 'static) {
    let servers = Arc::clone(site.servers.as_ref().expect("servers break only where there are some"));
    let struck = tokio::task::spawn_blocking(move || strike(&servers));
    struck.await.expect("it does not panic").expect("the server obeys");
    // From here on the servers are back.
    site.toll.strike(|_| ());
}

/// `queue` is sick, and each role is killed meanwhile.
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

/// What Twilio may do, one thing in turn. Its list is late, too, and its callbacks come later than the sender looks there.
fn quirks(turn: usize) -> TwilioQuirks {
    match turn % 4 {
        0 => TwilioQuirks { trial: true, smart_encoding: true, ..late() },
        1 => TwilioQuirks { appended: Some(" Reply STOP to end".to_owned()), ..late() },
        2 => TwilioQuirks { redacted: Some(String::new()), ..late() },
        _ => TwilioQuirks { callback_from: CallbackFrom::Omitted, ..late() },
    }
}

/// Twilio's list shows a text late, and its callbacks are late.
pub(super) fn late() -> TwilioQuirks {
    TwilioQuirks { list_lag_ms: LIST_LAG_MS, callback_delay_ms: CALLBACK_DELAY_MS, ..TwilioQuirks::default() }
}

async fn outage(site: &Site, kills: u32) {
    on_servers(site, Servers::take_broker_away).await;
    for _ in 0..kills {
        sleep(BROKER_AWAY / kills).await;
        site.kill_role("ingress");
    }
    // On a busy machine people text more slowly, and a small disk takes longer to fill.
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
