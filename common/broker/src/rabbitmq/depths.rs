//! Counts the messages in the queues with passive declares, which change nothing.

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use message::failure::Failure;

use super::step::step;
use crate::{DELAY_STEPS, Depths, Stage, Topology};

/// The depths of all queues of `topology`. Only waiting messages count: RabbitMQ does not report held ones here.
pub(super) async fn all(connection: &Connection, topology: &Topology) -> Result<Depths, Failure> {
    let channel = step("cannot open a channel", connection.create_channel()).await?;
    let partitions = async |stage| {
        let mut sum = 0;
        for partition in 0..topology.partitions_of(stage) {
            sum += waiting(&channel, &topology.queue(stage, partition)).await?;
        }
        Ok::<_, Failure>(sum)
    };
    let mut depths = Depths {
        inbound: partitions(Stage::Inbound).await?,
        outbound: partitions(Stage::Outbound).await?,
        receipts: partitions(Stage::Receipts).await?,
        ..Depths::default()
    };
    for stage in Stage::ALL {
        for (step, _) in DELAY_STEPS {
            depths.delayed += waiting(&channel, &topology.delay(stage, step)).await?;
        }
    }
    for stage in [Stage::Inbound, Stage::Outbound] {
        depths.dead += waiting(&channel, &topology.dead_queue(stage)).await?;
    }
    Ok(depths)
}

/// How many messages wait in `queue`.
pub(super) async fn waiting(channel: &Channel, queue: &str) -> Result<u64, Failure> {
    Ok(u64::from(count(channel, queue).await?.0))
}

/// How many messages wait in `queue`, and how many consumers it has. RabbitMQ reports 0 and 0 for a queue without a
/// leader, and after a quarter of a second for one whose leader hangs.
pub(super) async fn count(channel: &Channel, queue: &str) -> Result<(u32, u32), Failure> {
    let options = QueueDeclareOptions::durable().passive();
    let asking = channel.queue_declare(queue.into(), options, FieldTable::default());
    let found = step(&format!("cannot count queue {queue}"), asking).await?;
    Ok((found.message_count(), found.consumer_count()))
}
