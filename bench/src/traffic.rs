//! Evenly spaced texts that keep arriving until they are stopped, for scenarios whose length is not known beforehand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::load::connection::Connection;
use crate::load::webhook::{CONVERSATIONS, Webhooks};
use crate::pace::{Arrivals, Pace};
use crate::role::Installation;

/// The number of connections. There are many, so that a text that waits for an absent broker does not hold up the next.
const CONNECTIONS: u32 = 64;
/// The longest run in seconds; longer than any scenario.
const LONGEST_S: f64 = 3600.0;

/// The running traffic.
#[derive(Debug)]
pub(crate) struct Traffic {
    posted: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    posting: JoinSet<anyhow::Result<()>>,
}

impl Traffic {
    /// Starts posting `rate_per_s` texts a second, each of another customer.
    ///
    /// # Errors
    /// When ingress does not listen.
    pub(crate) async fn start(installation: &Installation, rate_per_s: f64) -> anyhow::Result<Self> {
        let webhooks = Arc::new(Webhooks::new(&installation.public_url, rand::random()));
        let (posted, stop) = (Arc::new(AtomicU64::new(0)), watch::Sender::new(false));
        let arrivals = Arrivals::start(Pace::PerSecond(rate_per_s), LONGEST_S);
        let mut posting = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let connection = Connection::open(installation.target()?).await?;
            let (webhooks, posted, arrivals) = (Arc::clone(&webhooks), Arc::clone(&posted), arrivals.clone());
            posting.spawn(post(connection, webhooks, posted, arrivals, stop.subscribe()));
        }
        Ok(Self { posted, stop, posting })
    }

    /// The number of texts that were posted or are being posted.
    pub(crate) fn posted(&self) -> u64 {
        self.posted.load(Ordering::SeqCst)
    }

    /// Stops the traffic and returns the number of texts in all.
    ///
    /// # Errors
    /// When a text was not answered 204.
    pub(crate) async fn stop(mut self) -> anyhow::Result<u64> {
        self.stop.send_replace(true);
        while let Some(ended) = self.posting.join_next().await {
            ended.context("a connection's task ended")??;
        }
        Ok(self.posted())
    }
}

async fn post(
    mut connection: Connection,
    webhooks: Arc<Webhooks>,
    posted: Arc<AtomicU64>,
    arrivals: Arrivals,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            _stopped = stop.wait_for(|stopped| *stopped) => return Ok(()),
            due = arrivals.next() => if due.is_none() { return Ok(()) },
        }
        let number = posted.fetch_add(1, Ordering::SeqCst);
        ensure!(number < CONVERSATIONS, "there are no more customers");
        let status = connection.send(webhooks.request(number)?).await?;
        ensure!(status == 204, "a webhook was answered {status}");
    }
}
