//! One side of a comparison: an installation that runs one role, and a backlog for that role.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use broker::Stage;

use super::super::Plan;
use crate::backlog::{Backlog, Mix};
use crate::cost::Cost;
use crate::figure::Target;
use crate::load::stand_in::{self, StandIn};
use crate::role::{Backend, Installation};
use crate::sheet::Sheet;
use crate::sink::Sink;
use crate::tally::Tally;

/// The number of messages that are measured.
const COUNTED: u64 = 5000;
/// The number of messages before them that are not measured. It is more than a worker holds (16 partitions, 32 messages
/// of each). The messages that the sample before gave back come again as suspects, and a suspect costs two more writes.
/// With a short backlog there are fewer of them.
const WARM: u64 = 2500;
/// The longest wait until the counts add up after a role has stopped.
const SETTLING: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One side of a comparison.
pub(super) struct Side {
    pub(super) installation: Installation,
    /// The prefix of the queues' names and of the records' keys.
    pub(super) prefix: String,
    pub(super) backlog: Backlog,
    /// The number of messages that should remain after a sample.
    pub(super) behind: u64,
    role: &'static str,
    tally: Arc<Tally>,
    /// Takes the parts that a worker publishes.
    _sink: Option<Sink>,
    /// Takes the texts that a sender sends.
    _stand_in: Option<StandIn>,
}

impl Side {
    /// A side with a worker and texts of `mix`.
    pub(super) async fn worker(plan: &Plan, amqp_url: &str, redis_url: &str, mix: Mix) -> anyhow::Result<Self> {
        let (installation, prefix) = installation(plan, amqp_url, redis_url)?;
        installation.declare().await?;
        let backlog = Backlog::open(amqp_url, &prefix, Stage::Inbound, mix).await?;
        let tally = Arc::<Tally>::default();
        let sink = Some(Sink::open(amqp_url, &prefix, Arc::clone(&tally)).await?);
        Ok(Self { installation, prefix, backlog, behind: 0, role: "worker", tally, _sink: sink, _stand_in: None })
    }

    /// A side with a sender and parts, each for another customer.
    pub(super) async fn sender(plan: &Plan, amqp_url: &str, redis_url: &str) -> anyhow::Result<Self> {
        let (installation, prefix) = installation(plan, amqp_url, redis_url)?;
        installation.declare().await?;
        let backlog = Backlog::open(amqp_url, &prefix, Stage::Outbound, Mix::STRANGERS).await?;
        let tally = Arc::<Tally>::default();
        let taken = Arc::clone(&tally);
        let stand_in = Some(stand_in::start(installation.provider, move |to, now| taken.note(to, now)).await?);
        Ok(Self { installation, prefix, backlog, behind: 0, role: "sender", tally, _sink: None, _stand_in: stand_in })
    }

    /// Runs the role on a sample, with [`Side::behind`] more messages behind it.
    ///
    /// # Errors
    /// When a message is lost, or a text reaches the provider twice.
    pub(super) async fn sample(&mut self) -> anyhow::Result<Cost> {
        let (wanted, waiting) = (self.behind + WARM + COUNTED, self.backlog.waiting().await?);
        self.backlog.add(wanted.saturating_sub(waiting)).await?;
        // Counted before the start, because the role may have moved some messages by the time it is ready.
        let first = self.tally.count() + WARM;
        let role = self.installation.start(self.role).await?;
        let cost = Cost::of(&role, &self.tally, first, COUNTED).await?;
        role.stop().await?;
        self.settle().await?;
        Ok(cost)
    }

    /// Returns once every message that was ever added either waits or has come through once.
    async fn settle(&self) -> anyhow::Result<()> {
        let until = Instant::now() + SETTLING;
        loop {
            let (waiting, moved, added) = (self.backlog.waiting().await?, self.tally.count(), self.backlog.added());
            if waiting + moved == added {
                // A part may be published again under the same message id, because the sender drops it. A provider call
                // may not be repeated.
                return if self.role == "sender" { self.tally.ensure_once(moved) } else { Ok(()) };
            }
            ensure!(Instant::now() < until, "of {added} messages {waiting} wait and {moved} came through");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// An installation on these servers, under its own names.
pub(super) fn installation(plan: &Plan, amqp_url: &str, redis_url: &str) -> anyhow::Result<(Installation, String)> {
    let prefix = format!("bench-{:08x}", rand::random::<u32>());
    let (amqp_url, redis_url) = (amqp_url.to_owned(), redis_url.to_owned());
    let backend = Backend::Servers { amqp_url, redis_url, prefix: prefix.clone() };
    Ok((Installation::new(&plan.binary, &backend)?, prefix))
}

/// The targets of a comparison: upper limits of the ratios.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    pub(super) cost: Option<Target>,
    pub(super) memory: Option<Target>,
}

/// Samples both sides in turn, `rounds` times, and notes the ratios. `few` and `many` name the load of the small and of
/// the large side.
pub(super) async fn compare(
    sheet: &mut Sheet,
    rounds: u32,
    [few, many]: [&str; 2],
    [small, large]: [&mut Side; 2],
    wanted: Wanted,
) -> anyhow::Result<()> {
    let role = large.role;
    let name = |what: &str, with: &str| format!("{role}'s {what}, {with}");
    let rabbitmq = |with: &str| format!("RabbitMQ's CPU for 1,000 messages of a {role}, {with}");
    let compared = format!("{many} / {few}");
    let (few, many) = (format!("{few} beside {many}"), many.to_owned());
    for round in 1..=rounds {
        eprintln!("bench: scale, {role}, {many}, {round} of {rounds}");
        for (with, side) in [(&few, &mut *small), (&many, &mut *large)] {
            let cost = side.sample().await?;
            sheet.note(name("CPU for 1,000 messages", with), "s", cost.cpu_s);
            sheet.note(name("time for 1,000 messages", with), "s", cost.wall_s);
            sheet.note(name("memory", with), "MiB", cost.resident_mib);
            sheet.note(rabbitmq(with), "s", cost.rabbitmq_cpu_s);
        }
    }
    for (what, target) in
        [("CPU for 1,000 messages", wanted.cost), ("time for 1,000 messages", wanted.cost), ("memory", wanted.memory)]
    {
        sheet.ratio_as(name(what, &compared), &name(what, &many), &name(what, &few), target)?;
    }
    sheet.ratio_as(rabbitmq(&compared), &rabbitmq(&many), &rabbitmq(&few), None)
}

/// Adds a remark about parts that were published twice. A part has the same message id both times, and the sender sends
/// it once.
pub(super) fn note_repeated(sheet: &mut Sheet, tallies: &[&Tally]) {
    let repeated: u64 = tallies.iter().map(|tally| tally.repeated()).sum();
    if repeated > 0 {
        sheet.remark(format!("{repeated} parts were published twice so far, which the sender would have noticed."));
    }
}
