//! Scenario `pipeline`: from a text's webhook to the provider call with the answer, through the real ingress, worker
//! and sender, RabbitMQ and Redis. The assistant and the provider answer at once.
//!
//! Floor of the same round: one bare program that moves the same bytes over the same two hops, with as many Redis
//! calls.

use std::time::Duration;

use anyhow::Context as _;
use broker::Stage;

use super::ingress::post;
use super::{Plan, SHARES, conclude_latencies, fresh_batch, share_of};
use crate::child;
use crate::figure::Target;
use crate::floor::pipeline as floor;
use crate::load::round_trip::{self, Outcome};
use crate::pace::Pace;
use crate::queues::Queues;
use crate::records::{Records, Trips};
use crate::role::{Installation, Role};
use crate::sheet::Sheet;
use crate::spending::Spending;

/// The numbers of texts on their way at a time that are tried for the maximum. The best result counts.
const IN_FLIGHT: [u32; 2] = [256, MOST_IN_FLIGHT];
const MOST_IN_FLIGHT: u32 = 1024;
/// The longest wait for a sample from the queues.
const SAMPLE_DEADLINE: Duration = Duration::from_secs(20);

/// Measures the scenario.
pub(super) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let (installation, prefix) = plan.on_servers()?;
    let queues = Queues::open(&plan.amqp_url, &prefix).await?;
    let records = Records::open(plan.redis_url, &prefix).await?;
    let ingress = installation.start("ingress").await?;
    let (inbound, outbound) = samples(&installation, &queues).await?;
    let roles = [ingress, installation.start("worker").await?, installation.start("sender").await?];
    let trips = count_trips(&installation, &records).await?;
    // The floor has its own queues, declared by an ingress as Switchboard's are.
    let (floors, floor_prefix) = plan.on_servers()?;
    floors.start("ingress").await?.stop().await?;
    let records = [records, Records::open(plan.redis_url, &floor_prefix).await?];
    let bench = Bench { plan, floor_prefix, installation, roles, records, inbound, outbound, trips };
    let mut sheet = Sheet::new("pipeline");
    for round in 1..=plan.rounds {
        eprintln!("bench: pipeline, round {round} of {}", plan.rounds);
        bench.round(&mut sheet).await?;
    }
    for role in bench.roles {
        role.stop().await?;
    }
    conclude(&mut sheet, trips)?;
    Ok(sheet)
}

/// One envelope of each hop, as ingress and worker write it.
async fn samples(installation: &Installation, queues: &Queues) -> anyhow::Result<(String, String)> {
    post(installation, 1, Pace::Saturating, 0.1).await?;
    let inbound = queues.take(Stage::Inbound, SAMPLE_DEADLINE).await?;
    let worker = installation.start("worker").await?;
    let outbound = queues.take(Stage::Outbound, SAMPLE_DEADLINE).await?;
    worker.stop().await?;
    queues.empty().await?;
    Ok((inbound, outbound))
}

/// The number of Redis calls for a text, counted over some hundred texts. These texts also warm all roles up.
async fn count_trips(installation: &Installation, records: &Records) -> anyhow::Result<Trips> {
    let before = records.trips().await?;
    let outcome = ours(installation, Pace::InFlight(64), 2.0).await?;
    let after = records.trips().await?;
    let per_text = |before: u64, after: u64| {
        // Rounded to the nearest: readiness probes and the like call Redis too, but seldom.
        (after - before + outcome.texts / 2).checked_div(outcome.texts).context("no text came through")
    };
    Ok(Trips { reads: per_text(before.reads, after.reads)?, writes: per_text(before.writes, after.writes)? })
}

/// Sends texts through the pipeline of `installation`.
///
/// # Errors
/// When a text does not reach the provider exactly once.
pub(super) async fn ours(installation: &Installation, pace: Pace, seconds: f64) -> anyhow::Result<Outcome> {
    let order = round_trip::Order {
        target: installation.target()?,
        public_url: installation.public_url.clone(),
        provider: installation.provider,
        pace,
        seconds,
        batch: fresh_batch(),
    };
    child::run("load-pipeline", &order).await
}

struct Bench<'a> {
    plan: &'a Plan,
    floor_prefix: String,
    installation: Installation,
    roles: [Role; 3],
    records: [Records; 2],
    inbound: String,
    outbound: String,
    trips: Trips,
}

impl Bench<'_> {
    async fn round(&self, sheet: &mut Sheet) -> anyhow::Result<()> {
        let (mut most_per_s, mut floor_most_per_s) = (0.0_f64, 0.0_f64);
        for in_flight in IN_FLIGHT {
            let pace = Pace::InFlight(in_flight);
            let before = Spending::now(&[])?;
            let floor = self.floor(pace).await?;
            sheet.note(format!("floor, {in_flight} in flight"), "1/s", floor.rate_per_s);
            if in_flight == MOST_IN_FLIGHT {
                before.note(sheet, "floor", &[], ("program", floor.cpu_s), floor.texts)?;
            }
            floor_most_per_s = floor_most_per_s.max(floor.rate_per_s);
            let before = Spending::now(&self.roles)?;
            let ours = ours(&self.installation, pace, self.plan.seconds).await?;
            sheet.note(format!("pipeline, {in_flight} in flight"), "1/s", ours.rate_per_s);
            if in_flight == MOST_IN_FLIGHT {
                before.note(sheet, "pipeline", &self.roles, ("generator and stand-in", ours.cpu_s), ours.texts)?;
            }
            most_per_s = most_per_s.max(ours.rate_per_s);
        }
        sheet.note("floor maximum", "1/s", floor_most_per_s);
        sheet.note("pipeline maximum", "1/s", most_per_s);
        for share in SHARES {
            let pace = share_of(most_per_s, share)?;
            sheet.note_latency(&format!("floor at {share} %"), &self.floor(pace).await?.latency);
            let ours = ours(&self.installation, pace, self.plan.seconds).await?;
            sheet.note_latency(&format!("pipeline at {share} %"), &ours.latency);
        }
        for records in &self.records {
            records.clear().await?;
        }
        Ok(())
    }

    async fn floor(&self, pace: Pace) -> anyhow::Result<floor::Outcome> {
        let order = floor::Order {
            amqp_url: self.plan.amqp_url.clone(),
            redis_url: self.plan.redis_url.to_owned(),
            prefix: self.floor_prefix.clone(),
            inbound: self.inbound.clone(),
            outbound: self.outbound.clone(),
            reads: u32::try_from(self.trips.reads)?,
            writes: u32::try_from(self.trips.writes)?,
            pace,
            seconds: self.plan.seconds,
        };
        child::run("floor-pipeline", &order).await
    }
}

fn conclude(sheet: &mut Sheet, trips: Trips) -> anyhow::Result<()> {
    sheet.ratio("pipeline maximum", "floor maximum", Some(Target::AtLeast(0.70)))?;
    conclude_latencies(sheet, &SHARES, ("pipeline", "floor"), |share, part| match (share, part) {
        (50, "p50") => Some(Target::AtMost(1.5)),
        (50, "p99") => Some(Target::AtMost(2.0)),
        _ => None,
    })?;
    let Trips { reads, writes } = trips;
    sheet.remark(format!(
        "A text asks Redis {reads} times and writes {writes} times, each one round trip, as counted by Redis; the floor \
         does too. The floor has no HTTP on either side, no assistant, and one process instead of three."
    ));
    Ok(())
}
