//! The one loop that settles: it takes deliveries into lanes, asks the handler, publishes what the handler decided with
//! confirms, and only then settles.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Delivery, Destination, Outgoing, Reason, ReasonName, Stage};
use bytes::Bytes;
use futures_util::FutureExt as _;
use message::Envelope;
use message::failpoint::{Step, reach};
use message::retry::RetryPolicy;
use message::shutdown::Shutdown;
use store::Store;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::heartbeats::{Beat, Heartbeats, Rhythm};
use super::item::{Item, LaneKey, Load, Suspicion};
use super::room::{LEAST_HELD, LaneResult, Room, Settled};
use super::{Decision, Handler, LaneState, Outcome, Progress, Settlement};
use crate::poison::{Suspects, Verdict};

/// How long a lane rests after our own code panicked outside the handler, 1 s.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// How a stage is worked on.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// How many messages are handled at a time, each of another conversation; at least 1. Once messages of a second
    /// integration have come, an eighth of it is closed to each integration and reserved for the others.
    pub concurrency: usize,
    /// Where the loop records what is held and when something moved.
    pub progress: Arc<Progress>,
    /// The store in which the poison-message guard records which suspects are being handled. With `None` nothing is
    /// recorded, and a message that kills the process is redelivered without end.
    pub store: Option<Arc<dyn Store>>,
    /// How often heartbeats go through the stage's partitions; `None` sends none and settles those that come. They need
    /// the store.
    pub heartbeats: Option<Rhythm>,
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
    let heartbeats = heartbeats(&broker, stage, &options, &shutdown);
    let mut subscription = broker.subscribe(stage, prefetch(stage, concurrency));
    let suspects = Arc::new(Suspects::new(stage, options.store, &shutdown));
    let worker = Runner { stage, handler, shutdown: shutdown.clone(), suspects };
    let mut room = Room::new(concurrency);
    let (mut running, mut beating) = (JoinSet::new(), JoinSet::new());
    let mut has_moved = true;
    loop {
        while let Some((lane, burst)) = room.lanes.start_next(Instant::now()) {
            running.spawn(worker.clone().run_lane(lane, burst, room.is_crowded()));
        }
        options.progress.hold(room.held(), has_moved, Instant::now());
        has_moved = false;
        tokio::select! {
            () = shutdown.started() => break,
            Some(ended) = running.join_next(), if !running.is_empty() => has_moved = room.close_lane(ended),
            Some(_) = beating.join_next(), if !beating.is_empty() => {}
            delivery = subscription.next(), if room.has_room() => match Beat::read(&delivery.payload) {
                Some(beat) => {
                    heartbeats.iter().for_each(|heartbeats| heartbeats.met(beat));
                    beating.spawn(worker.clone().settle_beat(delivery));
                }
                None => {
                    let key = room.take(delivery, &*worker.handler);
                    heartbeats.iter().zip(key).for_each(|(heartbeats, key)| heartbeats.passed(key));
                }
            },
            () = rested(room.lanes.next_due()) => {}
        }
    }
    info!(stage = stage.as_str(), held = room.held().messages, running = running.len(), "stops taking messages");
    let finish = async {
        while running.join_next().await.is_some() {}
        while beating.join_next().await.is_some() {}
    };
    if tokio::time::timeout(shutdown.grace(), finish).await.is_err() {
        warn!(stage = stage.as_str(), abandoned = running.len(), "gives back messages that were still being handled");
        running.abort_all();
        while running.join_next().await.is_some() {}
    }
    worker.suspects.clear_abandoned().await;
    subscription.close().await;
}

/// Starts the heartbeats of `stage`, if there are to be any; they end with `shutdown`.
fn heartbeats(
    broker: &Arc<dyn Broker>,
    stage: Stage,
    options: &RunOptions,
    shutdown: &Shutdown,
) -> Option<Arc<Heartbeats>> {
    let (store, rhythm) = (options.store.clone()?, options.heartbeats?);
    let heartbeats = Arc::new(Heartbeats::new(stage, broker.clone(), store, rhythm, options.progress.clone()));
    drop(tokio::spawn(heartbeats.clone().run(shutdown.clone())));
    Some(heartbeats)
}

/// How many unsettled messages the broker may hand out of each partition. With few partitions this still fills enough
/// lanes. With many, [`Room`] bounds the messages that are held, and this number times the partitions bounds those that
/// wait in front of it. Receipts have a single queue, so it supplies everything that is handled at a time.
fn prefetch(stage: Stage, concurrency: usize) -> u16 {
    let most = match stage {
        Stage::Inbound | Stage::Outbound => (concurrency / 8).min(64),
        Stage::Receipts => concurrency.min(LEAST_HELD),
    };
    u16::try_from(most.max(4)).unwrap_or(4)
}

/// Returns at `due`; never, if no lane rests.
async fn rested(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// What follows from a handler's decision.
enum Concluded {
    /// Publish these, then settle, and count it so.
    Settle(Vec<Outgoing>, Counted),
    Rest(Duration),
    GiveBack,
}

/// A message's end, as the metric counts it.
#[derive(Clone, Copy)]
struct Counted {
    outcome: &'static str,
    /// The rule that refused it.
    rule: Option<&'static str>,
}

#[derive(Clone)]
struct Runner {
    stage: Stage,
    handler: Arc<dyn Handler>,
    shutdown: Shutdown,
    suspects: Arc<Suspects>,
}

impl Runner {
    /// Runs a lane's turn. If our own code panics outside the handler, the messages are handled again, in their place:
    /// the ledgers know how far they came.
    async fn run_lane(self, lane: LaneKey, burst: Vec<Item>, is_crowded: bool) -> LaneResult {
        let (load, since) = (Load::of(&burst), burst.iter().flat_map(|item| item.since.clone()).collect());
        let mut item = Item::joined(burst).map(Box::new);
        let Some(at_hand) = &mut item else { return LaneResult { lane, load, since, item, settled: Settled::Yes } };
        let worked = AssertUnwindSafe(self.work(at_hand, is_crowded)).catch_unwind().await;
        let settled = worked.unwrap_or_else(|_| {
            error!(stage = self.stage.as_str(), "settling a message panicked; it is handled again");
            // The process survived, so the message is no suspect.
            at_hand.suspicion = Suspicion::None;
            Settled::Again { after: AFTER_PANIC, is_progress: false }
        });
        LaneResult { lane, load, since, item, settled }
    }

    /// Works on messages of one lane that run as one: the decision about the first, which the others joined, settles
    /// them all.
    async fn work(&self, item: &mut Item, is_crowded: bool) -> Settled {
        let (probation, verdict) = match self.suspects.check(item).await {
            Verdict::Handle(probation) => (probation, None),
            Verdict::ProcessKiller(reason, probation) => (Some(probation), Some(reason)),
            Verdict::Later(after) => return Settled::Again { after, is_progress: false },
            Verdict::GiveBack => return Settled::GivenBack,
        };
        let payload = item.payload();
        let stay = LaneState { rested: item.rested, is_crowded };
        let concluded = match &mut item.message {
            Ok(envelope) => {
                let decision = match verdict {
                    Some(reason) => Decision::dead_letter(reason),
                    None => self.ask(envelope, stay).await,
                };
                self.conclude(envelope, decision)
            }
            Err(reason) => {
                warn!(stage = self.stage.as_str(), size_bytes = payload.len(), %reason, "unreadable message dead-lettered");
                let counted = Counted::of(&Settlement::DeadLetter(reason.clone()));
                Concluded::Settle(vec![unread(self.stage, reason.clone(), payload)], counted)
            }
        };
        let settled = match concluded {
            Concluded::Settle(effects, counted) => self.settle_all(&item.deliveries, effects, counted).await,
            Concluded::GiveBack => Settled::GivenBack,
            Concluded::Rest(after) => {
                item.rested = item.rested.saturating_add(after);
                item.suspicion = Suspicion::None;
                Settled::Again { after, is_progress: true }
            }
        };
        if let Some(probation) = probation {
            self.suspects.clear(probation).await;
        }
        settled
    }

    async fn ask(&self, envelope: &mut Envelope, stay: LaneState) -> Decision {
        let handled = AssertUnwindSafe(self.handler.handle_in_lane(envelope, stay)).catch_unwind().await;
        handled.unwrap_or_else(|_| {
            Decision::dead_letter(Reason::new(ReasonName::HandlerPanicked, "the handler panicked on this message"))
        })
    }

    /// Turns a decision into messages to publish and the outcome's name.
    fn conclude(&self, envelope: &Envelope, decision: Decision) -> Concluded {
        let Decision { mut effects, settlement } = decision;
        let ids = (envelope.id, envelope.integration.as_str());
        let counted = Counted::of(&settlement);
        match settlement {
            Settlement::Done(Outcome::Refused(rule)) => {
                info!(stage = self.stage.as_str(), message.id = %ids.0, integration.id = ids.1, trace = envelope.trace, rule = rule.as_str(), "message refused");
            }
            Settlement::Done(outcome) => {
                debug!(stage = self.stage.as_str(), message.id = %ids.0, integration.id = ids.1, trace = envelope.trace, outcome = outcome.as_str(), "message done");
            }
            Settlement::RetryAfter(delay) => {
                debug!(stage = self.stage.as_str(), message.id = %ids.0, integration.id = ids.1, trace = envelope.trace, delay_ms = delay.as_millis(), attempts = envelope.attempts.len(), "message parked");
                effects.push(Outgoing::new(Destination::Delayed(self.stage, delay), envelope));
            }
            Settlement::DeadLetter(reason) => {
                warn!(stage = self.stage.as_str(), message.id = %ids.0, integration.id = ids.1, trace = envelope.trace, reason = reason.name.as_str(), detail = reason.detail, "message dead-lettered");
                effects.push(Outgoing::new(Destination::Dead(self.stage, reason), envelope));
            }
            Settlement::Rest(delay) => return Concluded::Rest(delay),
            Settlement::GiveBack => return Concluded::GiveBack,
        }
        Concluded::Settle(effects, counted)
    }

    /// Settles `deliveries` one after the other. The effects go with the first: if the process dies before the others
    /// are settled, the ledger knows them.
    async fn settle_all(&self, deliveries: &[Delivery], mut effects: Vec<Outgoing>, counted: Counted) -> Settled {
        for delivery in deliveries {
            if let Settled::GivenBack = self.settle(delivery, &std::mem::take(&mut effects)).await {
                return Settled::GivenBack;
            }
            counted.count(self.stage);
        }
        Settled::Yes
    }

    /// Settles a heartbeat: it waits in no lane, is not counted as a message, and no handler sees it.
    async fn settle_beat(self, delivery: Delivery) {
        self.settle(&delivery, &[]).await;
    }

    /// Publishes and settles, with retries until it succeeds or the process stops: the decision is made. A broker that
    /// refuses (unreachable, full) slows this lane down until it takes the messages.
    async fn settle(&self, delivery: &Delivery, effects: &[Outgoing]) -> Settled {
        let mut backoff = RetryPolicy::NEAR.start();
        reach(Step::Settling);
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

impl Counted {
    fn of(settlement: &Settlement) -> Self {
        let rule = match settlement {
            Settlement::Done(Outcome::Refused(rule)) => Some(rule.as_str()),
            _ => None,
        };
        Self { outcome: settlement.as_str(), rule }
    }

    fn count(self, stage: Stage) {
        let mut labels = vec![("stage", stage.as_str()), ("outcome", self.outcome)];
        labels.extend(self.rule.map(|rule| ("rule", rule)));
        metrics::counter!("switchboard_messages_total", &labels).increment(1);
    }
}

/// An unreadable payload, as a dead letter to publish.
fn unread(stage: Stage, reason: Reason, payload: Bytes) -> Outgoing {
    let trace = message::trace::new_traceparent();
    Outgoing { destination: Destination::Dead(stage, reason), id: None, key: None, trace, payload }
}
