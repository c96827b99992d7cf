//! The fault suite: real processes of the real binary under traffic, killed and cut off at every turn, and a judge that
//! determines the outcome of each text. All faults and their times follow from a seed.

pub mod binary;
mod fault;
mod judge;
mod process;
mod scenario;
mod servers;
mod site;
mod small_disk;
mod table;
mod toll;
mod traffic;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use broker::Depths;
use message::clock::{Clock, Timestamp};
use simulator::Simulator;
use tokio::time::{Instant, sleep, sleep_until};

pub use judge::Findings;
pub use scenario::Scenario;
pub use table::{Row, markdown};

use judge::Law;
use site::{Plan, Site};
use traffic::{Progress, Traffic};

/// The backend that holds the queues and records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// In a file, with all roles in one process.
    Embedded,
    /// On RabbitMQ and Redis, with a process for each role.
    Servers,
}

impl Backend {
    /// The backend's name in the table and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Servers => "servers",
        }
    }
}

/// The size of a run.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// The backend that holds the queues and records.
    pub backend: Backend,
    /// The seed of all random choices.
    pub seed: u64,
    /// The number of texts.
    pub texts: u64,
    /// The number of deaths of our processes, about half of them at named steps.
    pub kills: u32,
    /// The number of texts that arrive in a second.
    pub rate_per_second: f64,
}

/// The time without an outgoing text after which the run counts as still. After a send of unknown outcome the sender is
/// quiet for 30 s; no other wait is longer.
const QUIET: Duration = Duration::from_secs(45);
/// The time for receipts to arrive.
const CALM: Duration = Duration::from_secs(2);
/// The longest wait for empty queues. Messages that are left then count as left over.
const REST_DEADLINE: Duration = Duration::from_secs(240);
/// The visit at which a role dies at the latest, in a scenario where only this role dies.
const MORTAL_VISITS: u32 = 60;
/// Customers for each text a second. At 1.0 a customer texts about once a second, so that texts of a conversation meet
/// in the queues.
const PEOPLE_PER_RATE: f64 = 1.0;

/// Runs a scenario with its share of `size`, and judges it.
pub async fn run(scenario: &Scenario, size: Size) -> Row {
    let started = Instant::now();
    let traffic = traffic_of(scenario, size);
    let kills = scale(size.kills, scenario.kills);
    let (random_kills, step_kills) = (kills / 2, kills.div_ceil(2));
    let plan = Plan {
        backend: size.backend,
        sabotage: scenario.sabotage,
        step_visits: match step_kills {
            _ if scenario.mortal.is_some() => Some(MORTAL_VISITS),
            0 => None,
            _ => Some(visits(&traffic, step_kills, size.backend)),
        },
        mortal: scenario.mortal,
        roles: scenario.roles,
        is_replicated: scenario.faults.contains(&fault::Kind::StoreDemoted),
        second_clock_s: scenario.second_clock_s,
        is_disk_small: scenario.is_disk_small,
        is_clustered: scenario.is_clustered,
        texts: traffic.texts(),
        seed: traffic.seed,
    };
    let mut site = Site::open(plan).await;
    if scenario.is_provider_flaky {
        fault::make_provider_flaky(&site.simulator);
    }
    if scenario.is_twilio_late {
        site.simulator.set_twilio_quirks(fault::late());
    }
    let progress = Arc::new(Progress::default());
    let texting = tokio::spawn({
        let (phone, number) = (site.simulator.phone(), site.number.clone());
        let (traffic, progress) = (traffic.clone(), Arc::clone(&progress));
        async move { (traffic.run(&phone, &number, &progress).await, Clock::system().now()) }
    });
    let (begun, begun_at) = (Instant::now(), Clock::system().now());
    for (when, fault) in scenario.script(traffic.seed, traffic.duration, random_kills) {
        sleep_until(begun + when).await;
        fault.strike(&mut site).await;
    }
    // The faults may go on for longer than the customers text.
    let (accepted, texted_until) = texting.await.expect("the traffic ends well");
    site.simulator.clear_faults();
    let depths = come_to_rest(&mut site, &accepted, scenario.sabotage.is_some()).await;
    judge(scenario, size.backend, site, &traffic, &progress, &accepted, depths, (begun_at, texted_until), started)
}

fn traffic_of(scenario: &Scenario, size: Size) -> Traffic {
    let texts = (size.texts * scenario.share / 100).max(1);
    let duration = Duration::from_secs_f64(texts as f64 / size.rate_per_second).max(scenario.at_least);
    let conversations = ((size.rate_per_second * PEOPLE_PER_RATE) as usize).clamp(1, 200).min(texts as usize);
    let texts_each = (texts as usize).div_ceil(conversations);
    // The scenarios of one run should not have their deaths at the same moments.
    let salt = scenario.name.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    Traffic { conversations, texts_each, duration, duplicates: scenario.duplicates, seed: size.seed.wrapping_add(salt) }
}

/// `percent` of `whole`, rounded up.
fn scale(whole: u32, percent: u32) -> u32 {
    (whole * percent).div_ceil(100)
}

/// The visit to a step at which a process dies at the latest, for about `kills` deaths in all.
fn visits(traffic: &Traffic, kills: u32, backend: Backend) -> u32 {
    let processes = if backend == Backend::Embedded { 1 } else { 3 };
    // On average a process dies after half of the visits.
    u32::try_from(2 * traffic.texts() * processes / u64::from(kills)).unwrap_or(u32::MAX).max(4)
}

/// Waits until every text has its outcome, or no text moves any more, and the queues of the stopped system are empty.
/// Returns what is left in the queues.
async fn come_to_rest(site: &mut Site, accepted: &[Vec<usize>], is_sabotaged: bool) -> Depths {
    let deadline = Instant::now() + REST_DEADLINE;
    // With only our own code broken, no send has an unknown outcome, so a shorter wait is enough.
    let quiet = if is_sabotaged { Duration::from_secs(5) } else { QUIET };
    loop {
        await_stillness(&site.simulator, accepted, quiet, deadline).await;
        sleep(CALM).await;
        let depths = site.stop().await;
        let left = depths.inbound + depths.outbound + depths.receipts + depths.delayed;
        if left == 0 || Instant::now() >= deadline {
            return depths;
        }
        site.start();
    }
}

/// Returns when every text has its outcome, when no text was sent for `quiet`, or at the deadline.
async fn await_stillness(simulator: &Simulator, accepted: &[Vec<usize>], quiet: Duration, deadline: Instant) {
    let (mut sent, mut moved_at) = (usize::MAX, Instant::now());
    while Instant::now() < deadline.min(moved_at + quiet) && !Findings::of(simulator, accepted).are_complete() {
        let now = simulator.messages().len();
        if now != sent {
            (sent, moved_at) = (now, Instant::now());
        }
        sleep(Duration::from_millis(500)).await;
    }
}

#[allow(clippy::too_many_arguments, reason = "all that a run leaves behind")]
fn judge(
    scenario: &Scenario,
    backend: Backend,
    site: Site,
    traffic: &Traffic,
    progress: &Progress,
    accepted: &[Vec<usize>],
    depths: Depths,
    (begun_at, texted_until): (Timestamp, Timestamp),
    started: Instant,
) -> Row {
    let findings = Findings::of(&site.simulator, accepted);
    let counts = site.toll.counts().clone();
    let law = Law {
        may_fail: scenario.may_fail,
        may_ask_twice: scenario.may_ask_twice,
        texts: traffic.texts(),
        accepted: progress.accepted.load(Ordering::Relaxed),
        gap: judge::longest_gap(&site.simulator.messages(), texted_until),
        longest_gap: scenario.longest_gap,
        turned_away: progress.turned_away.load(Ordering::Relaxed),
        must_turn_away: scenario.is_disk_small,
    };
    let violations = judge::violations(law, &findings, &depths, &counts);
    let recovery = judge::longest_recovery(&counts.struck_at, &site.simulator.messages());
    let should_keep = !violations.is_empty() && scenario.sabotage.is_none();
    Row {
        scenario: scenario.name,
        backend: backend.as_str(),
        kills: counts.kills,
        step_kills: counts.step_kills,
        terminations: counts.terminations,
        other_faults: counts.other_faults,
        accepted: law.accepted,
        refused: progress.refused.load(Ordering::Relaxed),
        turned_away: law.turned_away,
        repeated: progress.repeated.load(Ordering::Relaxed),
        findings,
        dead: depths.dead,
        recovery,
        gap: law.gap.0,
        last: judge::last(&site.simulator.messages(), begun_at),
        peak_mib: counts.peak_kib.values().max().map_or(0, |kib| kib.div_ceil(1024)),
        took: started.elapsed(),
        violations,
        logs: should_keep.then(|| site.keep()),
    }
}
