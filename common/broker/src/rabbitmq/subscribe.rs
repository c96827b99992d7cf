//! Consumes the partitions of a stage, each on its own, and checks regularly whether they have leaders.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::{Channel, Connection};
use message::failure::Failure;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::delivery::{RabbitSubscription, Taken};
use super::depths;
use super::link::Link;
use super::node::Nodes;
use super::partition::Partition;
use super::publish::Publisher;
use super::standing::Standings;
use super::step::step;
use crate::{Stage, Subscription, Topology};

/// How often each partition is checked for a leader. A queue that lost its leader keeps its consumers and tells them
/// nothing.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long the first attempts wait for the publishing connection to declare the queues.
const DECLARED_WITHIN: Duration = Duration::from_secs(5);

/// What is consumed, and how.
pub(super) struct Consumer {
    pub(super) link: Link,
    pub(super) nodes: Nodes,
    pub(super) publisher: Arc<Publisher>,
    pub(super) topology: Topology,
    pub(super) standings: Arc<Standings>,
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

    fn queues(&self) -> impl Iterator<Item = (u16, String)> {
        (0..self.topology.partitions_of(self.stage)).map(|number| (number, self.topology.queue(self.stage, number)))
    }

    async fn run(self, deliveries: mpsc::UnboundedSender<Taken>, stop: CancellationToken) {
        self.standings.begin(self.queues().map(|(_, queue)| queue));
        let _declared = stop.run_until_cancelled(self.publisher.connected(DECLARED_WITHIN)).await;
        // The partition count is certain only while connected. When it changes, the partitions start over.
        while stop.run_until_cancelled(self.link.up()).await.flatten().map(drop).is_some() {
            let round = stop.child_token();
            self.standings.begin(self.queues().map(|(_, queue)| queue));
            let all = self.topology.partitions_of(self.stage);
            let consuming = self.queues().map(|(number, queue)| {
                Partition { consumer: &self, number, all, queue }.run(deliveries.clone(), round.clone())
            });
            let looking = round.run_until_cancelled(self.look());
            let (_all, _never) = tokio::join!(join_all(consuming), looking);
        }
        self.standings.begin(None);
    }

    async fn look(&self) {
        loop {
            sleep(LOOK_EVERY).await;
            let Some(connection) = self.link.up().await else { return };
            if let Err(failure) = self.look_on(&connection).await {
                tracing::debug!(stage = self.stage.as_str(), %failure, "the partitions cannot be looked at");
            }
        }
    }

    /// Counts the consumers of each partition. A queue without a leader reports 0, even while this process consumes it.
    async fn look_on(&self, connection: &Connection) -> Result<(), Failure> {
        let mut channel: Option<Channel> = None;
        for (number, queue) in self.queues() {
            let asked = match channel.take() {
                Some(channel) => channel,
                None => step("cannot open a channel", connection.create_channel()).await?,
            };
            // A deleted queue costs the channel; its consumer learns of the deletion anyway.
            if let Ok((_, consumers)) = depths::count(&asked, &queue).await {
                self.standings.has_leader(number, consumers > 0);
                channel = Some(asked);
            }
        }
        match channel {
            Some(channel) => step("cannot close a channel", channel.close(200, "done".into())).await,
            None => Ok(()),
        }
    }
}

/// This process's consumer priority for `queue`. The broker hands each queue to the consumer with the highest one. Each
/// process has a pseudo-random priority of its own for every queue, so the queues spread evenly without coordination
/// (rendezvous hashing).
pub(super) fn priority(id: Uuid, queue: &str) -> i64 {
    let digest = Sha256::new().chain_update(id.as_bytes()).chain_update(queue.as_bytes()).finalize();
    let [a, b, c, d, ..]: [u8; 32] = digest.into();
    i64::from(u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff)
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
