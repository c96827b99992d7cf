//! The queues that Switchboard and the floors share. They are emptied between measurements, and supply the floors'
//! bytes.

use std::time::Duration;

use anyhow::Context as _;
use broker::{DEFAULT_PARTITIONS, Stage, Topology};
use futures_util::StreamExt as _;
use futures_util::stream::select_all;
use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::time::timeout;
use work::is_heartbeat;

/// The default of `broker.partitions`.
pub(crate) const PARTITIONS: u16 = DEFAULT_PARTITIONS;

/// A connection to the queues.
#[derive(Debug)]
pub(crate) struct Queues {
    channel: Channel,
    topology: Topology,
    connection: Connection,
}

impl Queues {
    /// Connects. The queues whose names begin with `prefix` must exist when they are used.
    ///
    /// # Errors
    /// When RabbitMQ is away.
    pub(crate) async fn open(amqp_url: &str, prefix: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(amqp_url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok(Self { channel, topology: Topology::new(prefix, PARTITIONS), connection })
    }

    /// Removes all messages from the inbound and outbound partitions.
    ///
    /// # Errors
    /// When a queue is missing or RabbitMQ is away.
    pub(crate) async fn empty(&self) -> anyhow::Result<()> {
        for name in self.names() {
            self.channel.queue_purge(name.as_str().into(), QueuePurgeOptions::default()).await?;
        }
        Ok(())
    }

    /// Waits for a message of `stage`, takes it and returns its payload. Other messages that were delivered go back to
    /// the queue.
    ///
    /// # Errors
    /// When no message comes within `deadline`.
    pub(crate) async fn take(&self, stage: Stage, deadline: Duration) -> anyhow::Result<String> {
        let channel = self.connection.create_channel().await?;
        channel.basic_qos(1, BasicQosOptions::default()).await?;
        let mut consumers = Vec::new();
        for partition in 0..PARTITIONS {
            let name = self.topology.queue(stage, partition);
            let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
            consumers.push(channel.basic_consume(name.as_str().into(), "".into(), options, arguments).await?);
        }
        let is_message = |delivery: &lapin::message::Delivery| !is_heartbeat(&delivery.data);
        let mut deliveries =
            select_all(consumers).filter(|taken| std::future::ready(taken.as_ref().map_or(true, is_message)));
        let first = timeout(deadline, deliveries.next()).await;
        let first = first.ok().flatten().with_context(|| format!("no message came to {}", stage.as_str()))??;
        channel.close(200, "done".into()).await?;
        String::from_utf8(first.data).context("an envelope is JSON")
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let stages = [Stage::Inbound, Stage::Outbound];
        stages
            .into_iter()
            .flat_map(move |stage| (0..PARTITIONS).map(move |partition| self.topology.queue(stage, partition)))
    }
}
