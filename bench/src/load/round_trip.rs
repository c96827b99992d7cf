//! The load on the whole pipeline: it posts webhooks, plays the provider that gets the replies, and measures from the
//! one to the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::connection::Connection;
use super::expected::Expected;
use super::stand_in;
use super::webhook::Webhooks;
use crate::latency::Percentiles;
use crate::meter::Meter;
use crate::pace::{Arrivals, Pace};
use crate::usage;

/// The number of connections that post.
const CONNECTIONS: u32 = 64;
/// The longest time from the last webhook to the last reply.
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);

/// The parameters of a run, with the address for the replies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The address of ingress.
    pub(crate) target: SocketAddr,
    /// The URL that is signed, without the path.
    pub(crate) public_url: String,
    /// The address at which the provider's stand-in listens.
    pub(crate) provider: SocketAddr,
    /// When texts begin.
    pub(crate) pace: Pace,
    /// The length of the run in seconds.
    pub(crate) seconds: f64,
    /// A number that keeps the message ids apart from those of other batches.
    pub(crate) batch: u64,
}

/// The result of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Texts a second that came through.
    pub(crate) rate_per_s: f64,
    /// The number of texts in all.
    pub(crate) texts: u64,
    /// From the scheduled instant of the webhook to the provider call.
    pub(crate) latency: Percentiles,
    /// CPU seconds of the generator itself.
    pub(crate) cpu_s: f64,
}

/// Runs the load as `order` says.
///
/// # Errors
/// When a webhook is not answered 204, or a text does not reach the provider exactly once.
pub(crate) async fn run(order: Order) -> anyhow::Result<Outcome> {
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(Connection::open(order.target).await?);
    }
    let arrivals = Arrivals::start(order.pace, order.seconds);
    let expected = Arc::new(Expected::new(Meter::start(order.seconds)?, arrivals.clone()));
    let replies = Arc::clone(&expected);
    let _stand_in = stand_in::start(order.provider, move |to, now| replies.reply(to, now)).await?;
    let webhooks = Arc::new(Webhooks::new(&order.public_url, order.batch));
    let next = Arc::new(AtomicU64::new(0));
    let mut posting = JoinSet::new();
    for connection in open {
        let (webhooks, next) = (Arc::clone(&webhooks), Arc::clone(&next));
        posting.spawn(post(connection, webhooks, next, arrivals.clone(), Arc::clone(&expected)));
    }
    while let Some(posted) = posting.join_next().await {
        posted.context("a connection's task ended")??;
    }
    let drained = tokio::time::timeout(DRAIN_DEADLINE, expected.all_through()).await;
    let (lost, unexpected) = expected.wrong();
    ensure!(drained.is_ok() && lost == 0, "{lost} texts did not come to the provider");
    ensure!(unexpected == 0, "{unexpected} replies came to the provider that no text had caused");
    let (texts, rate_per_s, latency) = expected.meter().read();
    ensure!(texts == next.load(Ordering::Relaxed), "{texts} replies for another number of texts");
    Ok(Outcome { rate_per_s, texts, latency, cpu_s: usage::cpu_s(std::process::id())? })
}

async fn post(
    mut connection: Connection,
    webhooks: Arc<Webhooks>,
    next: Arc<AtomicU64>,
    arrivals: Arrivals,
    expected: Arc<Expected>,
) -> anyhow::Result<()> {
    while let Some(due) = arrivals.next().await {
        let number = next.fetch_add(1, Ordering::Relaxed);
        expected.post(&Webhooks::customer(number), due);
        let status = connection.send(webhooks.request(number)?).await?;
        ensure!(status == 204, "a webhook was answered {status}");
    }
    Ok(())
}
