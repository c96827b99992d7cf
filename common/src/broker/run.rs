//! The one loop that settles: it takes deliveries into lanes, asks the handler, publishes what the handler decided with
//! confirms, and only then settles.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::lanes::Lanes;
use super::{Broker, Decision, Delivery, Destination, Handler, Outgoing, Progress, Reason, Settlement, Stage};
use crate::message::{ConversationKey, Envelope, Unreadable};
use crate::retry::RetryPolicy;
use crate::shutdown::Shutdown;

/// How many messages are held for each one being handled: enough that a lane's next message is at hand.
const HELD_PER_RUNNING: usize = 4;

/// How a stage is worked on.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// How many messages are handled at a time, each of another conversation; at least 1.
    pub concurrency: usize,
    /// Told what is held and when something moved.
    pub progress: Arc<Progress>,
}

/// Hands the messages of `stage` to `handler`, one at a time for each conversation, until `shutdown`; then finishes
/// what is being handled, for the grace period at most, and gives the rest back.
pub async fn run(
    broker: Arc<dyn Broker>,
    stage: Stage,
    handler: Arc<dyn Handler>,
    options: RunOptions,
    shutdown: Shutdown,
) {
    let concurrency = options.concurrency.max(1);
    // Per partition: with few partitions a worker still finds enough lanes, with many the total stays bounded below.
    let prefetch = u16::try_from((concurrency / 8).max(2)).unwrap_or(u16::MAX);
    let mut subscription = broker.subscribe(stage, prefetch);
    let mut lanes = Lanes::new(concurrency);
    let mut running = JoinSet::new();
    let worker = Worker { stage, handler, shutdown: shutdown.clone() };
    loop {
        while let Some((lane, mut burst)) = lanes.start_next(Instant::now()) {
            let (worker, count) = (worker.clone(), burst.len());
            // What a lost connection took back comes again, here or to somebody who may be at work on it already.
            burst.retain(|item: &Item| item.delivery.is_ours());
            running.spawn(async move { (lane, count, worker.work(burst).await) });
        }
        options.progress.hold(lanes.held(), Instant::now());
        tokio::select! {
            () = shutdown.started() => break,
            Some(ended) = running.join_next(), if !running.is_empty() => close_lane(&mut lanes, ended),
            delivery = subscription.next(), if lanes.held() < concurrency * HELD_PER_RUNNING => {
                let item = Item::read(delivery);
                let window = item.message.as_ref().map_or(Duration::ZERO, |message| worker.handler.join_window(message));
                lanes.push(item.lane(), item, window, Instant::now());
            }
            () = rested(lanes.next_due()) => {}
        }
    }
    info!(stage = stage.as_str(), held = lanes.held(), running = running.len(), "stops taking messages");
    let finish = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(shutdown.grace(), finish).await.is_err() {
        warn!(stage = stage.as_str(), abandoned = running.len(), "gives back messages that were still being handled");
        running.abort_all();
        while running.join_next().await.is_some() {}
    }
    subscription.close().await;
}

/// A lane's name: unreadable payloads have no conversation and share one lane.
type LaneKey = Option<ConversationKey>;

/// Returns at `due`; never, if no lane rests.
async fn rested(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn close_lane(lanes: &mut Lanes<LaneKey, Item>, ended: Result<(LaneKey, usize, Settled), JoinError>) {
    match ended {
        Ok((lane, count, Settled::Yes)) => lanes.finished(lane, count, Instant::now()),
        Ok((_, count, Settled::GivenBack)) => lanes.given_back(count),
        // Handlers' panics are caught, so only a cancelled task ends here, and nothing cancels one before the end.
        Err(error) => error!(%error, "a message's task ended by itself"),
    }
}

struct Item {
    delivery: Delivery,
    message: Result<Envelope, Unreadable>,
}

impl Item {
    fn read(delivery: Delivery) -> Self {
        let message = Envelope::decode(&delivery.payload);
        Self { delivery, message }
    }

    fn lane(&self) -> LaneKey {
        self.message.as_ref().ok().map(Envelope::key)
    }
}

/// Whether the delivery is off its queue.
enum Settled {
    Yes,
    GivenBack,
}

#[derive(Clone)]
struct Worker {
    stage: Stage,
    handler: Arc<dyn Handler>,
    shutdown: Shutdown,
}

impl Worker {
    /// Works on messages (or none) of one lane that run as one: the decision about the first, which the others joined,
    /// settles them all. An unreadable message joins nothing.
    async fn work(&self, burst: Vec<Item>) -> Settled {
        let mut deliveries = Vec::with_capacity(burst.len());
        let mut joined: Option<Envelope> = None;
        let mut effects = Vec::new();
        for Item { delivery, message } in burst {
            match (message, &mut joined) {
                (Ok(envelope), Some(first)) => first.join(envelope),
                (Ok(envelope), None) => joined = Some(envelope),
                (Err(unreadable), _) => effects.push(self.unreadable(&delivery.payload, &unreadable)),
            }
            deliveries.push(delivery);
        }
        let mut outcome = "dead";
        if let Some(envelope) = joined {
            let Some((decided, name)) = self.decide(envelope).await else { return Settled::GivenBack };
            effects.extend(decided);
            outcome = name;
        }
        // The effects go with the first: should we die before the others are settled, the ledger knows them.
        for delivery in &deliveries {
            if let Settled::GivenBack = self.settle(delivery, &std::mem::take(&mut effects)).await {
                return Settled::GivenBack;
            }
            metrics::counter!("switchboard_messages_total", "stage" => self.stage.as_str(), "outcome" => outcome)
                .increment(1);
        }
        Settled::Yes
    }

    /// Asks the handler and turns its decision into messages to publish and the outcome's name; `None` gives back.
    async fn decide(&self, mut envelope: Envelope) -> Option<(Vec<Outgoing>, &'static str)> {
        let handled = AssertUnwindSafe(self.handler.handle(&mut envelope)).catch_unwind().await;
        let Decision { mut effects, settlement } = handled
            .unwrap_or_else(|_| Decision::dead_letter(Reason::new("crashed", "the handler panicked on this message")));
        let ids = (envelope.id, envelope.integration.as_str());
        let outcome = match settlement {
            Settlement::Done(outcome) => {
                debug!(stage = self.stage.as_str(), message.id = %ids.0, integration.id = ids.1, trace = envelope.trace, outcome = outcome.as_str(), "message done");
                outcome.as_str()
            }
            Settlement::RetryAfter(delay) => {
                info!(stage = self.stage.as_str(), message.id = %ids.0, integration.id = ids.1, trace = envelope.trace, delay_ms = delay.as_millis(), attempts = envelope.attempts.len(), "message parked");
                effects.push(Outgoing::new(Destination::Delayed(self.stage, delay), &envelope));
                "parked"
            }
            Settlement::DeadLetter(reason) => {
                warn!(stage = self.stage.as_str(), message.id = %ids.0, integration.id = ids.1, trace = envelope.trace, reason = reason.name, detail = reason.detail, "message dead-lettered");
                effects.push(Outgoing::new(Destination::Dead(self.stage, reason), &envelope));
                "dead"
            }
            Settlement::GiveBack => return None,
        };
        Some((effects, outcome))
    }

    fn unreadable(&self, payload: &Bytes, why: &Unreadable) -> Outgoing {
        warn!(stage = self.stage.as_str(), size_bytes = payload.len(), reason = %why, "unreadable message dead-lettered");
        Outgoing {
            destination: Destination::Dead(self.stage, Reason::new("unreadable", why.to_string())),
            id: None,
            key: None,
            trace: crate::telemetry::new_traceparent(),
            payload: payload.clone(),
        }
    }

    /// Publishes and settles, as often as it takes: the decision is made, and a broker that refuses (away, full) slows
    /// this lane down until it takes the messages.
    async fn settle(&self, delivery: &Delivery, effects: &[Outgoing]) -> Settled {
        let mut backoff = RetryPolicy::NEAR.start();
        loop {
            let Err(failure) = delivery.settle(effects).await else { return Settled::Yes };
            let delay = backoff.next_delay(failure.retry_after);
            warn!(stage = self.stage.as_str(), %failure, delay_ms = delay.as_millis(), "cannot publish a decision, trying again");
            tokio::select! {
                () = self.shutdown.started() => return Settled::GivenBack,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }
}
