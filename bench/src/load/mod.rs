//! The load generator, a separate process: it posts signed webhooks over keep-alive connections.

pub(crate) mod connection;
mod expected;
pub(crate) mod round_trip;
pub(crate) mod stand_in;
pub(crate) mod webhook;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::latency::{Latencies, Percentiles};
use crate::pace::{Arrivals, Pace};
use crate::usage;
use connection::Connection;
use webhook::Webhooks;

/// The parameters of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The address of ingress, or of its floor.
    pub(crate) target: SocketAddr,
    /// The URL that is signed, without the path.
    pub(crate) public_url: String,
    /// The number of connections.
    pub(crate) connections: u32,
    /// When requests begin.
    pub(crate) pace: Pace,
    /// The length of the run in seconds.
    pub(crate) seconds: f64,
    /// A number that keeps the message ids apart from those of other batches.
    pub(crate) batch: u64,
}

/// The result of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Requests a second that were answered 204.
    pub(crate) rate_per_s: f64,
    /// The number of requests that were answered 204.
    pub(crate) taken: u64,
    /// From the scheduled instant to the answer.
    pub(crate) latency: Percentiles,
    /// CPU seconds of the generator itself.
    pub(crate) cpu_s: f64,
}

/// Posts as `order` says.
///
/// # Errors
/// When any request is not answered 204.
pub(crate) async fn run(order: Order) -> anyhow::Result<Outcome> {
    let webhooks = Arc::new(Webhooks::new(&order.public_url, order.batch));
    let next = Arc::new(AtomicU64::new(0));
    let mut open = Vec::new();
    for _ in 0..order.connections {
        open.push(Connection::open(order.target).await?);
    }
    let cpu_before_s = usage::cpu_s(std::process::id())?;
    let began = Instant::now();
    let arrivals = Arrivals::start(order.pace, order.seconds);
    let mut posting = JoinSet::new();
    for connection in open {
        posting.spawn(post(connection, Arc::clone(&webhooks), Arc::clone(&next), arrivals.clone()));
    }
    let mut all = Latencies::new()?;
    while let Some(posted) = posting.join_next().await {
        all.add(&posted.context("a connection's task ended")??)?;
    }
    let elapsed = began.elapsed();
    #[allow(clippy::cast_precision_loss, reason = "no run has 2^52 requests")]
    let rate_per_s = all.count() as f64 / elapsed.as_secs_f64();
    let cpu_s = usage::cpu_s(std::process::id())? - cpu_before_s;
    Ok(Outcome { rate_per_s, taken: all.count(), latency: all.percentiles(), cpu_s })
}

async fn post(
    mut connection: Connection,
    webhooks: Arc<Webhooks>,
    next: Arc<AtomicU64>,
    arrivals: Arrivals,
) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::new()?;
    while let Some(due) = arrivals.next().await {
        let request = webhooks.request(next.fetch_add(1, Ordering::Relaxed))?;
        let status = connection.send(request).await?;
        ensure!(status == 204, "a webhook was answered {status}");
        latencies.note(due);
    }
    Ok(latencies)
}
