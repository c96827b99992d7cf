//! The number of conversations served a second while the assistant takes 300 ms to answer: with more workers, and with
//! one worker that takes more turns at a time.
//!
//! The workers' `concurrency` is so low that all eight together need less CPU than the machine has. The scenario
//! measures whether workers add up, not the number of cores.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use broker::Stage;
use futures_util::future::try_join_all;
use tests::servers::RabbitMqServer;

use super::super::Plan;
use super::side::{installation, note_repeated};
use crate::assistant::THINKING_MS;
use crate::backlog::{Backlog, Mix};
use crate::child::Server;
use crate::figure::Target;
use crate::role::Installation;
use crate::sheet::Sheet;
use crate::sink::Sink;
use crate::tally::Tally;
use crate::usage;

/// The numbers of workers that are tried.
const WORKERS: [u32; 4] = [1, 2, 4, 8];
/// Turns at a time in each of these workers.
const CONCURRENCY: u32 = 16;
/// Turns at a time in a single worker.
const ALONE: [u32; 3] = [64, 256, 1024];
/// The least number of texts: enough that each partition has texts until the end, even if a worker has few partitions.
const LEAST_TEXTS: u64 = 5000;
/// The time until all lanes are at work.
const WARMING: Duration = Duration::from_millis(700);
/// The fraction of `--seconds` that is counted.
const COUNTING: f64 = 0.5;
/// The longest wait for started turns after the end.
const SETTLING: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Measures the workers.
pub(super) async fn measure(plan: &Plan, redis_url: &str, sheet: &mut Sheet) -> anyhow::Result<()> {
    if plan.rabbitmq.starts_with("3.") {
        sheet.remark(
            "Workers: SKIPPED. Before 4.0 RabbitMQ does not spread partitions; `scripts/newer-rabbitmq install` makes a \
             newer one.",
        );
        return Ok(());
    }
    let broker = tokio::task::block_in_place(|| RabbitMqServer::start_release(plan.release))?;
    let assistant = Server::start("assistant").await?;
    let mut bench = Bench::new(plan, broker.url(), redis_url, &assistant.address).await?;
    for round in 1..=plan.rounds {
        eprintln!("bench: scale, workers, {round} of {}", plan.rounds);
        for workers in WORKERS {
            let rate_per_s = bench.serve(workers, CONCURRENCY, sheet).await?;
            sheet.note(format!("served by {workers} workers of {CONCURRENCY}"), "1/s", rate_per_s);
        }
        for concurrency in ALONE.into_iter().filter(|_| round <= plan.fewer_rounds()) {
            let rate_per_s = bench.serve(1, concurrency, sheet).await?;
            sheet.note(format!("served by one worker of {concurrency}"), "1/s", rate_per_s);
            sheet.note(format!("the most that {concurrency} at a time can be"), "1/s", ideal_per_s(concurrency));
        }
    }
    note_repeated(sheet, &[&bench.tally]);
    for workers in [2, 4, 8] {
        let target = (workers == 4).then_some(Target::AtLeast(3.8));
        let name = |workers: u32| format!("served by {workers} workers of {CONCURRENCY}");
        sheet.ratio(&name(workers), &name(1), target)?;
    }
    for concurrency in ALONE {
        let (ours, most) =
            (format!("served by one worker of {concurrency}"), format!("the most that {concurrency} at a time can be"));
        sheet.ratio(&ours, &most, None)?;
    }
    sheet.remark(format!(
        "Workers: the assistant thinks {THINKING_MS} ms, each worker takes {CONCURRENCY} turns at a time, \
         which is {:.1} a second at most. Each text opens a session, a call of its own that is answered at once.",
        ideal_per_s(CONCURRENCY),
    ));
    Ok(())
}

/// The highest rate that is possible with an assistant that takes its time.
#[allow(clippy::cast_precision_loss, reason = "some hundred milliseconds")]
fn ideal_per_s(concurrency: u32) -> f64 {
    f64::from(concurrency) * 1000.0 / THINKING_MS as f64
}

struct Bench<'a> {
    plan: &'a Plan,
    installation: Installation,
    backlog: Backlog,
    tally: Arc<Tally>,
    _sink: Sink,
    concurrency: u32,
}

impl<'a> Bench<'a> {
    async fn new(plan: &'a Plan, amqp_url: &str, redis_url: &str, assistant: &str) -> anyhow::Result<Self> {
        let (installation, prefix) = installation(plan, amqp_url, redis_url)?;
        installation.change(
            "kind = \"scripted\"\nfile = \"dialogue.toml\"\n",
            &format!("kind = \"watsonx\"\nurl = \"http://{assistant}\"\nassistant_id = \"bench\"\nauth = {{ kind = \"none\" }}\n"),
        )?;
        installation.change("[ingress]\n", &format!("[worker]\nconcurrency = {CONCURRENCY}\n[ingress]\n"))?;
        installation.declare().await?;
        let backlog = Backlog::open(amqp_url, &prefix, Stage::Inbound, Mix::STRANGERS).await?;
        let tally = Arc::<Tally>::default();
        let sink = Sink::open(amqp_url, &prefix, Arc::clone(&tally)).await?;
        Ok(Self { plan, installation, backlog, tally, _sink: sink, concurrency: CONCURRENCY })
    }

    /// Texts a second that `workers` workers answer. The workers start while the queues are empty, so that no messages
    /// have to be handed over.
    async fn serve(&mut self, workers: u32, concurrency: u32, sheet: &mut Sheet) -> anyhow::Result<f64> {
        let concurrent = |number: u32| format!("[worker]\nconcurrency = {number}\n");
        self.installation.change(&concurrent(self.concurrency), &concurrent(concurrency))?;
        self.concurrency = concurrency;
        let roles = try_join_all((0..workers).map(|_| self.installation.start("worker"))).await?;
        self.backlog.add(LEAST_TEXTS.max(u64::from(concurrency) * 16)).await?;
        tokio::time::sleep(WARMING).await;
        let (from, began, busy_before_s) = (self.tally.count(), Instant::now(), usage::machine_cpu_s()?);
        tokio::time::sleep(Duration::from_secs_f64(self.plan.seconds * COUNTING)).await;
        let (to, elapsed_s, busy_s) =
            (self.tally.count(), began.elapsed().as_secs_f64(), usage::machine_cpu_s()? - busy_before_s);
        ensure!(self.backlog.waiting().await? > 0, "nothing was left to serve");
        self.backlog.clear().await?;
        try_join_all(roles.into_iter().map(|role| role.stop())).await?;
        self.settle().await?;
        sheet.note(format!("cores busy, {workers} workers of {concurrency}"), "", busy_s / elapsed_s);
        Ok(f64::from(u32::try_from(to - from)?) / elapsed_s)
    }

    /// Returns once every text was served or thrown away.
    async fn settle(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + SETTLING;
        loop {
            self.backlog.clear().await?;
            let (served, added) = (self.tally.count(), self.backlog.added());
            if served == added {
                return Ok(());
            }
            ensure!(Instant::now() < until, "of {added} texts {served} were served");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
