//! The time to answer a backlog of ten minutes, from the start of worker and sender until the last answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use broker::Stage;

use super::super::Plan;
use crate::backlog::{Backlog, Mix};
use crate::child;
use crate::floor::pipeline as floor;
use crate::load::stand_in;
use crate::pace::Pace;
use crate::records::Records;
use crate::role::Installation;
use crate::sheet::Sheet;
use crate::tally::Tally;

/// The texts of ten minutes at 50 texts a second.
const TEXTS: u32 = 30_000;
/// The longest wait for the backlog to drain.
const DEADLINE: Duration = Duration::from_secs(120);
/// The number of texts that the floor has on their way at a time.
const IN_FLIGHT: u32 = 1024;

/// Measures the drain.
pub(super) async fn measure(plan: &Plan, sheet: &mut Sheet) -> anyhow::Result<()> {
    let (installation, prefix) = plan.on_servers()?;
    installation.declare().await?;
    let (floors, floor_prefix) = plan.on_servers()?;
    floors.declare().await?;
    let mut texts = Backlog::open(&plan.amqp_url, &prefix, Stage::Inbound, Mix::STRANGERS).await?;
    let parts = Backlog::open(&plan.amqp_url, &floor_prefix, Stage::Outbound, Mix::STRANGERS).await?;
    let records = Records::open(plan.redis_url, &prefix).await?;
    let tally = Arc::<Tally>::default();
    let taken = Arc::clone(&tally);
    let _stand_in = stand_in::start(installation.provider, move |to, now| taken.note(to, now)).await?;
    for round in 1..=plan.fewer_rounds() {
        eprintln!("bench: recovery, drain, {round} of {}", plan.fewer_rounds());
        let before = records.trips().await?;
        sheet.note("drain of 30,000 texts", "s", drain(&installation, &mut texts, &tally).await?);
        let after = records.trips().await?;
        let a_text = |before: u64, after: u64| u32::try_from((after - before + 15_000) / u64::from(TEXTS));
        let order = floor::Order {
            amqp_url: plan.amqp_url.clone(),
            redis_url: plan.redis_url.to_owned(),
            prefix: floor_prefix.clone(),
            inbound: texts.sample()?,
            outbound: parts.sample()?,
            reads: a_text(before.reads, after.reads)?,
            writes: a_text(before.writes, after.writes)?,
            pace: Pace::InFlight(IN_FLIGHT),
            seconds: plan.seconds,
        };
        let outcome: floor::Outcome = child::run("floor-pipeline", &order).await?;
        sheet.note("floor's time for 30,000 texts", "s", f64::from(TEXTS) / outcome.rate_per_s);
        records.clear().await?;
    }
    sheet.ratio("drain of 30,000 texts", "floor's time for 30,000 texts", None)?;
    sheet.remark(
        "Drain: what comes in ten minutes at 50 texts a second, from the start of worker and sender until the last provider \
         call. The floor is that of the pipeline, at its own best rate; it also publishes the texts, which ours finds in \
         their queues.",
    );
    Ok(())
}

/// Seconds from the start of worker and sender until all texts have come through.
async fn drain(installation: &Installation, texts: &mut Backlog, tally: &Tally) -> anyhow::Result<f64> {
    texts.add(u64::from(TEXTS)).await?;
    let began = Instant::now();
    let (worker, sender) = tokio::try_join!(installation.start("worker"), installation.start("sender"))?;
    tally.reach(texts.added(), DEADLINE).await.context("the backlog does not drain")?;
    let elapsed = began.elapsed();
    worker.stop().await?;
    sender.stop().await?;
    tally.ensure_once(texts.added())?;
    Ok(elapsed.as_secs_f64())
}
