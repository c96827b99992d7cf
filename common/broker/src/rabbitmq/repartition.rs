//! Changes the partition count, once no connection uses the old count and its queues are empty.
//!
//! Two processes may try at once, and a process with the old count may connect during the change. So the change happens
//! under a lock, an exclusive queue that ends with its connection: a connecting process looks for the lock after taking
//! its presence, and disconnects if the lock is held.

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

/// How long the queues must stay silent: longer than a message takes from one of them to another, than the last publish
/// of a connection that just ended, and than a node takes to learn of the lock.
const SILENCE: Duration = Duration::from_secs(3);
/// The stages with partitions. Receipts have one queue whatever the count is.
const PARTITIONED: [Stage; 2] = [Stage::Inbound, Stage::Outbound];

/// Changes the partition count from `old` to that of `topology`. Fails with the obstacle, if there is one, and then
/// changes nothing.
pub(super) async fn change(connection: &Connection, topology: &Topology, old: u16) -> Result<(), Failure> {
    let before = topology.before(old);
    let refusal = |obstacle: Obstacle| {
        let new = topology.partitions();
        Failure::misconfigured(format!("broker.partitions is {new} here but {old} is in force, and {obstacle}"))
    };
    // Cheap checks first: they do not disturb connections that use the old count.
    let channel = step("cannot open a channel", connection.create_channel()).await?;
    let (_, users) = count(&channel, &before.in_force()).await?;
    if users > 0 {
        return Err(refusal(Obstacle::InUse(users)));
    }
    // A queue that an operator deleted could not be counted.
    declare::everything(connection, &before).await?;
    look(&channel, &before, 0).await?.map_err(refusal)?;
    lock(&channel, topology).await?;
    empty(connection, &before).await?.map_err(refusal)?;
    replace(&channel, &before, topology).await?;
    // After a failure the connection ends, and the lock with it.
    delete(&channel, &topology.in_force_lock()).await
}

/// What prevents a change.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error("{0} connections still live with that")]
    InUse(u32),
    #[error("messages still lie in its queues ({0}): let workers and senders with the old number finish them")]
    Messages(String),
    #[error("a message has just come out of its queues")]
    Moving,
}

/// Counts the messages and consumers of every queue. `ours` consumers are allowed in each.
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

/// The queues whose messages carry a partition's number, by what they hold.
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

/// Makes sure that no connection uses the count of `before` and that its queues are empty, by consuming from all of
/// them.
///
/// The counts alone are not enough: RabbitMQ reports 0 for a queue without a leader. So each queue must count this
/// consumer too.
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
    // Before the consumers are dropped: messages that came out go back to their place.
    step("cannot close a channel", channel.close(200, "done".into())).await?;
    found
}

/// Replaces the count and deletes the surplus partitions. From here on a process with the old count is refused. If this
/// process dies half-way, the queues left over are empty and harmless.
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
