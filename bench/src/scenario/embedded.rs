//! Scenario `embedded`: the scenarios `ingress` and `pipeline` on the SQLite file.
//!
//! Floor of the same round: bare synced commits, grouped as Switchboard's writer groups them. A text waits for the same
//! number of commits, one after the other.

use super::ingress::post;
use super::pipeline::ours;
use super::{Plan, conclude_latencies, share_of};
use crate::child;
use crate::floor::sqlite;
use crate::pace::Pace;
use crate::role::{Backend, Installation};
use crate::sheet::Sheet;

/// The numbers of connections that are tried for the maximum of ingress.
const CONNECTIONS: [u32; 2] = [1, 64];
/// The shares of the maximum at which latencies are taken, in percent.
const SHARES: [u32; 1] = [50];
/// The number of texts on their way at a time, for the maximum of the pipeline.
const IN_FLIGHT: [u32; 1] = [256];
/// The number of commits for a text until its webhook is answered.
const ACCEPTED: u32 = 1;
/// The number of commits for a text until the provider is called: accepted, handed out, answered, settled with the part
/// published, handed out, sending.
const UNTIL_CALLED: u32 = 6;
/// The number of commits after the provider call: sent, settled.
const AFTER_CALLED: u32 = 2;
/// The length of a row in bytes: about that of an envelope or a record.
const ROW_BYTES: usize = 450;

/// Measures the scenario.
pub(super) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("embedded");
    for round in 1..=plan.rounds {
        eprintln!("bench: embedded, round {round} of {}", plan.rounds);
        ingress(plan, &mut sheet).await?;
        pipeline(plan, &mut sheet).await?;
    }
    sheet.ratio("ingress maximum", "commits maximum for ingress", None)?;
    conclude_latencies(&mut sheet, &SHARES, ("ingress", "commits for ingress"), |_, _| None)?;
    sheet.ratio("pipeline maximum", "commits maximum for pipeline", None)?;
    conclude_latencies(&mut sheet, &SHARES, ("pipeline", "commits for pipeline"), |_, _| None)?;
    sheet.remark(format!(
        "A text waits for {ACCEPTED} commit until its webhook is answered, for {UNTIL_CALLED} until the provider is \
         called, and {AFTER_CALLED} follow; so does a text of the floor, with rows of {ROW_BYTES} bytes."
    ));
    Ok(sheet)
}

/// Runs only `ingress`, so that only accepting is measured. Each round has a file of its own.
async fn ingress(plan: &Plan, sheet: &mut Sheet) -> anyhow::Result<()> {
    let installation = Installation::new(&plan.binary, &Backend::Embedded)?;
    let role = installation.start("ingress").await?;
    let (mut most_per_s, mut floor_most_per_s) = (0.0_f64, 0.0_f64);
    for connections in CONNECTIONS {
        let floor = commits(plan, Pace::InFlight(connections), ACCEPTED, 0).await?;
        sheet.note(format!("commits, {connections} at a time"), "1/s", floor.rate_per_s);
        sheet.note(format!("rows in a commit, {connections} at a time"), "", floor.rows_together);
        floor_most_per_s = floor_most_per_s.max(floor.rate_per_s);
        let ours = post(&installation, connections, Pace::Saturating, plan.seconds).await?;
        sheet.note(format!("ingress, {connections} connections"), "1/s", ours.rate_per_s);
        most_per_s = most_per_s.max(ours.rate_per_s);
    }
    sheet.note("commits maximum for ingress", "1/s", floor_most_per_s);
    sheet.note("ingress maximum", "1/s", most_per_s);
    for share in SHARES {
        let pace = share_of(most_per_s, share)?;
        let floor = commits(plan, pace, ACCEPTED, 0).await?;
        sheet.note_latency(&format!("commits for ingress at {share} %"), &floor.latency);
        let ours = post(&installation, 64, pace, plan.seconds).await?;
        sheet.note_latency(&format!("ingress at {share} %"), &ours.latency);
    }
    role.stop().await
}

async fn pipeline(plan: &Plan, sheet: &mut Sheet) -> anyhow::Result<()> {
    let installation = Installation::new(&plan.binary, &Backend::Embedded)?;
    let role = installation.start("up").await?;
    let (mut most_per_s, mut floor_most_per_s) = (0.0_f64, 0.0_f64);
    for in_flight in IN_FLIGHT {
        let pace = Pace::InFlight(in_flight);
        let floor = commits(plan, pace, UNTIL_CALLED, AFTER_CALLED).await?;
        floor_most_per_s = floor_most_per_s.max(floor.rate_per_s);
        let ours = ours(&installation, pace, plan.seconds).await?;
        sheet.note(format!("pipeline, {in_flight} in flight"), "1/s", ours.rate_per_s);
        most_per_s = most_per_s.max(ours.rate_per_s);
    }
    sheet.note("commits maximum for pipeline", "1/s", floor_most_per_s);
    sheet.note("pipeline maximum", "1/s", most_per_s);
    for share in SHARES {
        let pace = share_of(most_per_s, share)?;
        let floor = commits(plan, pace, UNTIL_CALLED, AFTER_CALLED).await?;
        sheet.note_latency(&format!("commits for pipeline at {share} %"), &floor.latency);
        let ours = ours(&installation, pace, plan.seconds).await?;
        sheet.note_latency(&format!("pipeline at {share} %"), &ours.latency);
    }
    role.stop().await
}

async fn commits(plan: &Plan, pace: Pace, commits: u32, commits_after: u32) -> anyhow::Result<sqlite::Outcome> {
    let directory = tempfile::tempdir()?;
    let order = sqlite::Order {
        directory: directory.path().to_owned(),
        row_bytes: ROW_BYTES,
        commits,
        commits_after,
        pace,
        seconds: plan.seconds,
    };
    child::run("floor-sqlite", &order).await
}
