//! Consumes the partitions of a stage, through every loss.
//!
//! A subscription stops by closing its channel: the broker then puts what was unsettled back in front, in order. It never
//! cancels a consumer, and never drops lapin's `Consumer` before the channel is closed, because that cancels too: after a
//! cancel the next consumer starts while the unsettled messages are still here.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use lapin::Channel;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::declare;
use super::delivery::{RabbitSubscription, Settle, Taken};
use super::link::Link;
use super::message::redeliveries;
use super::publish::Publisher;
use super::step::step;
use crate::broker::{Stage, Subscription, Topology};
use crate::failure::Failure;
use crate::retry::RetryPolicy;

/// How long a channel may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is consumed, and how.
pub(super) struct Consumer {
    pub(super) link: Link,
    pub(super) publisher: Arc<Publisher>,
    pub(super) topology: Topology,
    pub(super) id: Uuid,
    pub(super) stage: Stage,
    pub(super) prefetch: u16,
}

impl Consumer {
    /// Starts consuming in a task of its own.
    pub(super) fn start(self) -> impl Subscription {
        // Unbounded in itself; the broker hands out no more than the prefetch of each partition.
        let (sender, deliveries) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let task = tokio::spawn(self.run(sender, stop.clone()));
        RabbitSubscription { deliveries, stop: stop.drop_guard(), task }
    }

    async fn run(self, deliveries: mpsc::UnboundedSender<Taken>, stop: CancellationToken) {
        let mut backoff = RetryPolicy::NEAR.start();
        let mut logged = String::new();
        while !stop.is_cancelled() {
            let Some(Some(connection)) = stop.run_until_cancelled(self.link.up()).await else { return };
            let opened = stop.run_until_cancelled(step("cannot open a channel", connection.create_channel())).await;
            let why = match opened {
                None => return,
                Some(Err(failure)) => failure.to_string(),
                Some(Ok(channel)) => {
                    let mut open = Open { channel, consumers: Vec::new() };
                    let consumes = || {
                        backoff.reset();
                        logged.clear();
                    };
                    let working = async {
                        tokio::select! {
                            why = self.work(&mut open, &deliveries, consumes) => why,
                            () = self.link.gives_up(&connection) => "its connection was given up".to_owned(),
                        }
                    };
                    let ended = stop.run_until_cancelled(working).await;
                    open.close().await;
                    let Some(why) = ended else { return };
                    why
                }
            };
            if why != logged {
                tracing::warn!(stage = self.stage.as_str(), "consuming begins again: {why}");
                logged = why;
            }
            let pause = tokio::time::sleep(backoff.next_delay(None));
            let _stopped = stop.run_until_cancelled(pause).await;
        }
    }

    /// Consumes on the channel of `open` until that ends, and tells why it did.
    async fn work(
        &self,
        open: &mut Open,
        deliveries: &mpsc::UnboundedSender<Taken>,
        consumes: impl FnOnce(),
    ) -> String {
        match self.consume(open).await {
            Ok(()) => {
                consumes();
                pump(open, &self.publisher, deliveries).await
            }
            Err(failure) => failure.to_string(),
        }
    }

    async fn consume(&self, open: &mut Open) -> Result<(), Failure> {
        declare::stage(&open.channel, &self.topology, self.stage).await?;
        // Per consumer, not per channel: https://www.rabbitmq.com/docs/consumer-prefetch.
        let prefetching = open.channel.basic_qos(self.prefetch, BasicQosOptions::default());
        step("cannot set the prefetch", prefetching).await?;
        for partition in 0..self.topology.partitions_of(self.stage) {
            let queue = self.topology.queue(self.stage, partition);
            let mut arguments = FieldTable::default();
            arguments.insert("x-priority".into(), AMQPValue::LongLongInt(priority(self.id, &queue)));
            let options = BasicConsumeOptions::default();
            let consuming = open.channel.basic_consume(queue.as_str().into(), "".into(), options, arguments);
            open.consumers.push(step(&format!("cannot consume queue {queue}"), consuming).await?);
        }
        Ok(())
    }
}

/// This process's rank among the consumers of `queue`. The broker hands each queue to the highest, and as everybody draws
/// a number of their own for every queue, the queues spread evenly with nothing to coordinate (rendezvous hashing).
fn priority(id: Uuid, queue: &str) -> i64 {
    let digest = Sha256::new().chain_update(id.as_bytes()).chain_update(queue.as_bytes()).finalize();
    let [a, b, c, d, ..]: [u8; 32] = digest.into();
    i64::from(u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff)
}

/// A channel with its consumers.
struct Open {
    channel: Channel,
    consumers: Vec<lapin::Consumer>,
}

impl Open {
    async fn close(self) {
        if self.channel.status().connected() {
            let closed = timeout(CLOSE_TIMEOUT, self.channel.close(200, "done".into())).await;
            if !matches!(closed, Ok(Ok(()))) {
                tracing::debug!("a channel was lost while it was being closed");
            }
        }
        drop(self.consumers);
    }
}

/// Hands deliveries on until a consumer ends, and tells why it did. Each partition's stay in order.
async fn pump(open: &Open, publisher: &Arc<Publisher>, deliveries: &mpsc::UnboundedSender<Taken>) -> String {
    // An end without an error is one too: the queue was deleted, or the broker cancelled the consumer.
    let streams = open.consumers.iter().map(|consumer| consumer.clone().map(Some).chain(stream::iter([None])));
    let mut merged = stream::select_all(streams);
    let (channel, ended) = (Arc::new(open.channel.clone()), CancellationToken::new());
    let _ended = ended.clone().drop_guard();
    loop {
        let taken = match ended.run_until_cancelled(merged.next()).await {
            None => return "acknowledgements do not leave".to_owned(),
            Some(Some(Some(taken))) => taken,
            Some(_) => return "the broker ended a consumer".to_owned(),
        };
        match taken {
            Ok(delivery) => {
                let taken = Taken {
                    redeliveries: redeliveries(&delivery.properties, delivery.redelivered),
                    payload: delivery.data.into(),
                    settler: Settle {
                        acker: delivery.acker,
                        channel: Arc::clone(&channel),
                        tag: delivery.delivery_tag,
                        publisher: Arc::clone(publisher),
                        ended: ended.clone(),
                    },
                };
                if deliveries.send(taken).is_err() {
                    return "nobody takes deliveries any more".to_owned();
                }
            }
            Err(error) => return error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_spread_evenly_and_only_those_of_a_worker_that_leaves_move() {
        let topology = Topology::new("sb", 64);
        let workers: Vec<_> = (1..=4).map(Uuid::from_u128).collect();
        let owner = |workers: &[Uuid], partition| {
            let queue = topology.queue(Stage::Inbound, partition);
            *workers.iter().max_by_key(|id| priority(**id, &queue)).unwrap()
        };
        for worker in &workers {
            let owned = (0..64).filter(|partition| owner(&workers, *partition) == *worker).count();
            assert!((8..=26).contains(&owned), "{worker} has {owned} of 64");
        }
        for partition in 0..64 {
            let (before, after) = (owner(&workers, partition), owner(&workers[..3], partition));
            assert!(before == after || before == workers[3]);
        }
    }
}
