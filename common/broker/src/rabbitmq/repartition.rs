//! Puts another number of partitions in force, once nobody lives with the old one and its queues are empty.
//!
//! Two may want to at once, and somebody may come with the old number meanwhile. So it happens under a lock, an exclusive
//! queue that ends with its connection: whoever joins looks for it after taking a place, and goes away again.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use message::failure::Failure;

use super::depths::count;
use super::step::{answer, step};
use super::{declare, failure, partitions};
use crate::{DELAY_STEPS, Stage, Topology};

/// How long the queues must stay silent: longer than a message is on its way between two of them, than the last publish
/// of a connection that just ended, and than a node takes to hear of the lock.
const SILENCE: Duration = Duration::from_secs(3);
/// Receipts have one queue whatever the number is.
const PARTITIONED: [Stage; 2] = [Stage::Inbound, Stage::Outbound];

/// Puts the number of `topology` in force instead of `old`. Fails with what stands against it, and changes nothing then.
pub(super) async fn change(connection: &Connection, topology: &Topology, old: u16) -> Result<(), Failure> {
    let before = topology.before(old);
    let refusal = |obstacle: Obstacle| {
        let new = topology.partitions();
        Failure::misconfigured(format!("broker.partitions is {new} here but {old} is in force, and {obstacle}"))
    };
    // Cheap looks first: they disturb nobody who lives with the number.
    let channel = step("cannot open a channel", connection.create_channel()).await?;
    let (_, users) = count(&channel, &before.in_force()).await?;
    if users > 0 {
        return Err(refusal(Obstacle::InUse(users)));
    }
    // One that an operator deleted could not be counted.
    declare::everything(connection, &before).await?;
    look(&channel, &before, 0).await?.map_err(refusal)?;
    lock(&channel, topology).await?;
    empty(connection, &before).await?.map_err(refusal)?;
    replace(&channel, &before, topology).await?;
    // After a failure the connection ends, and the lock with it.
    delete(&channel, &topology.in_force_lock()).await
}

/// What stands against a change.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error("{0} connections still live with that")]
    InUse(u32),
    #[error("messages still lie in its queues ({0}): let workers and senders with the old number finish them")]
    Messages(String),
    #[error("a message has just come out of its queues")]
    Moving,
}

/// Asks every queue for its messages and consumers, of which `ours` are allowed.
async fn look(channel: &Channel, before: &Topology, ours: u32) -> Result<Result<(), Obstacle>, Failure> {
    let (_, users) = count(channel, &before.in_force()).await?;
    if users != ours {
        return Ok(Err(Obstacle::InUse(users.saturating_sub(ours))));
    }
    let mut left = Vec::new();
    for (kind, queues) in queues(before) {
        let mut sum = 0;
        for queue in queues {
            let (messages, consumers) = count(channel, &queue).await?;
            if consumers != ours {
                return Ok(Err(Obstacle::InUse(consumers.saturating_sub(ours))));
            }
            sum += messages;
        }
        if sum > 0 {
            left.push(format!("{sum} {kind}"));
        }
    }
    Ok(if left.is_empty() { Ok(()) } else { Err(Obstacle::Messages(left.join(", "))) })
}

/// The queues whose messages bear a partition's number, by what lies in them.
fn queues(before: &Topology) -> [(&'static str, Vec<String>); 3] {
    let of = |stage| (0..before.partitions()).map(move |partition| before.queue(stage, partition)).collect();
    let delays = PARTITIONED.iter().flat_map(|stage| DELAY_STEPS.map(|(step, _)| before.delay(*stage, step)));
    [("inbound", of(Stage::Inbound)), ("outbound", of(Stage::Outbound)), ("parked", delays.collect())]
}

async fn lock(channel: &Channel, topology: &Topology) -> Result<(), Failure> {
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let declaring = channel.queue_declare(topology.in_force_lock().as_str().into(), options, FieldTable::default());
    match answer("cannot lock the number of partitions", declaring).await? {
        Ok(_) => Ok(()),
        Err(error) if failure::is_locked(&error) => {
            Err(Failure::transient("the number of partitions is being changed"))
        }
        Err(error) => Err(failure::of_setup("cannot lock the number of partitions", &error)),
    }
}

/// Makes sure that nobody lives with the number of `before` and nothing lies in its queues, by consuming from them all.
///
/// Their counts alone would not do: RabbitMQ says 0 for a queue that has no leader. So each must count us too.
async fn empty(connection: &Connection, before: &Topology) -> Result<Result<(), Obstacle>, Failure> {
    let channel = step("cannot open a channel", connection.create_channel()).await?;
    let all = queues(before).into_iter().flat_map(|(_, queues)| queues).chain([before.in_force()]);
    let mut consumers = Vec::new();
    for queue in all {
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consuming = channel.basic_consume(queue.as_str().into(), "".into(), options, arguments);
        consumers.push(step(&format!("cannot consume queue {queue}"), consuming).await?);
    }
    let mut moving = stream::select_all(consumers.iter().cloned());
    let found = match tokio::time::timeout(SILENCE, moving.next()).await {
        Ok(_) => Ok(Err(Obstacle::Moving)),
        Err(_) => look(&channel, before, 1).await,
    };
    // Before the consumers are dropped: what came out goes back to its place.
    step("cannot close a channel", channel.close(200, "done".into())).await?;
    found
}

/// Replaces the number and deletes the partitions that are too many. Whoever comes back with the old number is refused
/// from here on; should we die half-way, the queues left over are empty and in nobody's way.
async fn replace(channel: &Channel, before: &Topology, topology: &Topology) -> Result<(), Failure> {
    delete(channel, &before.in_force()).await?;
    if let Some(other) = partitions::put_in_force(channel, topology).await? {
        return Err(Failure::transient(format!("somebody else has just put {other} partitions in force")));
    }
    for stage in PARTITIONED {
        for partition in topology.partitions()..before.partitions() {
            delete(channel, &before.queue(stage, partition)).await?;
        }
    }
    tracing::info!(before = before.partitions(), now = topology.partitions(), "the number of partitions was changed");
    Ok(())
}

async fn delete(channel: &Channel, queue: &str) -> Result<(), Failure> {
    let deleting = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
    step(&format!("cannot delete queue {queue}"), deleting).await.map(drop)
}
