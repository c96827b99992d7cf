//! The scenarios, and the plan that they share.

mod embedded;
mod footprint;
mod ingress;
mod pipeline;
mod recovery;
mod scale;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use rand::Rng as _;
use tests::servers::{RabbitMqServer, Release, shared_amqp_url, shared_redis_url};

use crate::child;
use crate::figure::Target;
use crate::machine;
use crate::pace::Pace;
use crate::role::{Backend, Installation};
use crate::sheet::Sheet;

/// Something to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Signed webhooks to a confirmed publish
    Ingress,
    /// From the webhook to the provider call
    Pipeline,
    /// Both on the embedded database
    Embedded,
    /// More workers, longer backlogs, more conversations and integrations
    Scale,
    /// Restarts of RabbitMQ, and a backlog that drains
    Recovery,
    /// Memory, CPU, start-up and size
    Footprint,
}

impl Scenario {
    /// All scenarios, in the order in which they run.
    pub(crate) const ALL: [Self; 6] =
        [Self::Ingress, Self::Pipeline, Self::Scale, Self::Embedded, Self::Recovery, Self::Footprint];

    /// Whether the scenario measures RabbitMQ, so that its figures differ between releases.
    pub(crate) fn uses_rabbitmq(self) -> bool {
        self != Self::Embedded
    }

    /// The scenario's name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Measures the scenario.
    ///
    /// # Errors
    /// When a measurement fails, or its result cannot be trusted.
    pub(crate) async fn run(self, plan: &Plan) -> anyhow::Result<Sheet> {
        match self {
            Self::Ingress => ingress::run(plan).await,
            Self::Pipeline => pipeline::run(plan).await,
            Self::Embedded => embedded::run(plan).await,
            Self::Scale => scale::run(plan).await,
            Self::Recovery => recovery::run(plan).await,
            Self::Footprint => footprint::run(plan).await,
        }
    }
}

/// Which releases of RabbitMQ to measure on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Releases {
    /// The one that `scripts/newer-rabbitmq` installed
    Newer,
    /// The machine's own, or the server that `AMQP_URL` names
    Own,
    /// First the newer one, then the machine's own
    Both,
}

impl Releases {
    /// The requested releases that are installed.
    pub(crate) fn installed(self) -> Vec<Release> {
        let newer = (self != Self::Own).then(Release::newer).flatten();
        let own = (self != Self::Newer).then_some(Release::Usual);
        newer.into_iter().chain(own).collect()
    }
}

/// The plan that every scenario gets.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The number of rounds.
    pub(crate) rounds: u32,
    /// The length of a single measurement in seconds.
    pub(crate) seconds: f64,
    /// The release binary.
    pub(crate) binary: PathBuf,
    /// The release of RabbitMQ.
    pub(crate) release: Release,
    /// The version of RabbitMQ.
    pub(crate) rabbitmq: String,
    /// RabbitMQ's URL.
    pub(crate) amqp_url: String,
    /// Redis's URL.
    pub(crate) redis_url: &'static str,
    /// The private RabbitMQ; `None` when the shared one is used.
    _server: Option<RabbitMqServer>,
}

impl Plan {
    /// The number of rounds for a figure without a target. It is smaller, because the whole bench should take a quarter
    /// of an hour.
    pub(crate) fn fewer_rounds(&self) -> u32 {
        self.rounds.min(3)
    }

    /// Finds the binary beside this program, and the servers: a private RabbitMQ of the newer release or the shared
    /// one, and the shared Redis. The shared servers are those that the environment names, or else private ones.
    ///
    /// # Errors
    /// When the binary was not built, or RabbitMQ does not start.
    pub(crate) async fn new(rounds: u32, seconds: f64, release: Release) -> anyhow::Result<Self> {
        let binary = fs::read_link(child::SELF)?.with_file_name("switchboard");
        ensure!(binary.is_file(), "{} is not there: run `make bench`, which builds it", binary.display());
        let server = match release {
            Release::Newer => Some(tokio::task::block_in_place(|| RabbitMqServer::start_release(release))?),
            Release::Usual => None,
        };
        let amqp_url = server.as_ref().map_or_else(|| shared_amqp_url().to_owned(), |server| server.url().to_owned());
        let rabbitmq = machine::rabbitmq(&amqp_url).await.context("RabbitMQ does not answer")?;
        Ok(Self {
            rounds,
            seconds,
            binary,
            release,
            rabbitmq,
            amqp_url,
            redis_url: shared_redis_url(),
            _server: server,
        })
    }

    /// An installation on the servers, and the prefix of its names, which no other installation uses.
    ///
    /// # Errors
    /// When its directory cannot be written.
    pub(crate) fn on_servers(&self) -> anyhow::Result<(Installation, String)> {
        let prefix = format!("bench-{:08x}", rand::rng().random::<u32>());
        let backend = Backend::Servers {
            amqp_url: self.amqp_url.clone(),
            redis_url: self.redis_url.to_owned(),
            prefix: prefix.clone(),
        };
        Ok((Installation::new(&self.binary, &backend)?, prefix))
    }
}

/// A number for a batch of texts that no other batch has.
pub(crate) fn fresh_batch() -> u64 {
    rand::rng().random()
}

/// The shares of the maximum at which latencies are taken, in percent.
const SHARES: [u32; 3] = [25, 50, 75];

/// The pace of `share` percent of a maximum.
///
/// # Errors
/// When there is no maximum, because nothing came through.
fn share_of(most_per_s: f64, share: u32) -> anyhow::Result<Pace> {
    ensure!(most_per_s > 0.0, "nothing came through in time: measure longer, with --seconds");
    Ok(Pace::PerSecond(most_per_s * f64::from(share) / 100.0))
}

/// Adds the ratios of the latencies at `shares`.
///
/// # Errors
/// When a latency was not measured.
fn conclude_latencies(
    sheet: &mut Sheet,
    shares: &[u32],
    (ours, floor): (&str, &str),
    target: impl Fn(u32, &str) -> Option<Target>,
) -> anyhow::Result<()> {
    for &share in shares {
        for part in ["p50", "p99", "p99.9"] {
            let of = |whose: &str| format!("{whose} at {share} % {part}");
            sheet.ratio(&of(ours), &of(floor), target(share, part))?;
        }
    }
    Ok(())
}
