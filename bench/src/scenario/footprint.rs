//! Scenario `footprint`: the resources that the processes need. Memory when idle, at half the maximum load, and with
//! 100,000 texts in the queues; CPU for each text; start to ready; the size of the binary and of the image.

use std::fs;
use std::time::{Duration, Instant};

use broker::Stage;
use tokio::process::Command;

use super::{Plan, fresh_batch};
use crate::backlog::{Backlog, Mix};
use crate::child;
use crate::load::round_trip::{self, Outcome};
use crate::load::stand_in;
use crate::pace::Pace;
use crate::role::{Backend, Installation, Role};
use crate::sheet::Sheet;

/// The roles that make up the pipeline, in the order in which they start.
const ROLES: [&str; 3] = ["ingress", "worker", "sender"];
/// The wait after the start before idle memory is measured.
const IDLE: Duration = Duration::from_secs(3);
/// The time for which memory is watched while a backlog is worked off.
const WATCHED: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The number of texts in the queues.
const IN_QUEUES: u64 = 100_000;
/// The number of texts on their way at a time, for the maximum load.
const IN_FLIGHT: u32 = 256;
/// The image that `docker/` and `docker-compose.yml` build.
const IMAGE: &str = "switchboard";

/// Measures the scenario.
pub(super) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("footprint");
    for round in 1..=plan.fewer_rounds() {
        eprintln!("bench: footprint, round {round} of {}", plan.fewer_rounds());
        servers(plan, &mut sheet).await?;
        embedded(plan, &mut sheet).await?;
    }
    sizes(plan, sheet).await
}

/// The three roles on RabbitMQ and Redis. Each round has its own queues, because its backlog is not worked off to the
/// end.
async fn servers(plan: &Plan, sheet: &mut Sheet) -> anyhow::Result<()> {
    let (installation, prefix) = plan.on_servers()?;
    let first = installation.start("ingress").await?;
    sheet.note("ingress, start to ready without its queues", "ms", milliseconds(&first));
    first.stop().await?;
    let mut roles = Vec::new();
    for name in ROLES {
        let role = installation.start(name).await?;
        sheet.note(format!("{name}, start to ready"), "ms", milliseconds(&role));
        roles.push(role);
    }
    tokio::time::sleep(IDLE).await;
    note_memory(sheet, &roles, "idle")?;
    let most = load(&installation, Pace::InFlight(IN_FLIGHT), plan.seconds).await?;
    let before_s = cpu_s(&roles)?;
    let half = load(&installation, Pace::PerSecond(most.rate_per_s / 2.0), plan.seconds).await?;
    note_memory(sheet, &roles, "at half load")?;
    let thousands = f64::from(u32::try_from(half.texts)?) / 1000.0;
    for ((name, before_s), after_s) in ROLES.iter().zip(before_s).zip(cpu_s(&roles)?) {
        sheet.note(format!("{name}, CPU for 1,000 texts at half load"), "s", (after_s - before_s) / thousands);
    }
    backlog(plan, sheet, &installation, &prefix, &roles).await?;
    for role in roles {
        role.stop().await?;
    }
    Ok(())
}

/// The peak memory of each role while 100,000 texts lie in the queues and are worked off.
async fn backlog(
    plan: &Plan,
    sheet: &mut Sheet,
    installation: &Installation,
    prefix: &str,
    roles: &[Role],
) -> anyhow::Result<()> {
    let _stand_in = stand_in::start(installation.provider, |_, _| {}).await?;
    let mut texts = Backlog::open(&plan.amqp_url, prefix, Stage::Inbound, Mix::STRANGERS).await?;
    texts.add(IN_QUEUES).await?;
    let until = Instant::now() + WATCHED;
    let mut most_mib = [0.0_f64; ROLES.len()];
    while Instant::now() < until {
        for (most_mib, role) in most_mib.iter_mut().zip(roles) {
            *most_mib = most_mib.max(role.resident_mib()?);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    for (name, most_mib) in ROLES.iter().zip(most_mib) {
        sheet.note(format!("{name}, memory with 100,000 texts in the queues"), "MiB", most_mib);
    }
    Ok(())
}

/// All roles in one process.
async fn embedded(plan: &Plan, sheet: &mut Sheet) -> anyhow::Result<()> {
    let installation = Installation::new(&plan.binary, &Backend::Embedded)?;
    let up = installation.start("up").await?;
    sheet.note("up (embedded), start to ready", "ms", milliseconds(&up));
    tokio::time::sleep(IDLE).await;
    sheet.note("up (embedded), memory idle", "MiB", up.resident_mib()?);
    up.stop().await
}

async fn load(installation: &Installation, pace: Pace, seconds: f64) -> anyhow::Result<Outcome> {
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

fn note_memory(sheet: &mut Sheet, roles: &[Role], when: &str) -> anyhow::Result<()> {
    for (name, role) in ROLES.iter().zip(roles) {
        sheet.note(format!("{name}, memory {when}"), "MiB", role.resident_mib()?);
    }
    Ok(())
}

fn cpu_s(roles: &[Role]) -> anyhow::Result<Vec<f64>> {
    roles.iter().map(Role::cpu_s).collect()
}

fn milliseconds(role: &Role) -> f64 {
    role.ready_after.as_secs_f64() * 1000.0
}

/// The sizes on disk.
async fn sizes(plan: &Plan, mut sheet: Sheet) -> anyhow::Result<Sheet> {
    #[allow(clippy::cast_precision_loss, reason = "no file has 2^52 bytes")]
    let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
    sheet.note("size of the binary", "MiB", mib(fs::metadata(&plan.binary)?.len()));
    let asked = Command::new("docker").args(["image", "inspect", "--format", "{{.Size}}", IMAGE]).output().await;
    let told = asked.ok().filter(|told| told.status.success()).and_then(|told| String::from_utf8(told.stdout).ok());
    match told.and_then(|told| told.trim().parse().ok()) {
        Some(bytes) => sheet.note("size of the image", "MiB", mib(bytes)),
        None => sheet.remark(format!("The image was not measured: no container engine here has `{IMAGE}`.")),
    }
    Ok(sheet)
}
