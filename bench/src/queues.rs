//! The queues that ours and the floors share: emptied between measurements, and the source of the floors' bytes.

use anyhow::Context as _;
use common::broker::{Stage, Topology};
use lapin::options::{BasicGetOptions, QueuePurgeOptions};
use lapin::{Channel, Connection, ConnectionProperties};

/// The default of `broker.partitions`.
pub(crate) const PARTITIONS: u16 = 64;

/// A connection to them.
#[derive(Debug)]
pub(crate) struct Queues {
    channel: Channel,
    topology: Topology,
    _connection: Connection,
}

impl Queues {
    /// Connects; the queues whose names begin with `prefix` must be there when they are used.
    ///
    /// # Errors
    /// When RabbitMQ is away.
    pub(crate) async fn open(amqp_url: &str, prefix: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(amqp_url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok(Self { channel, topology: Topology::new(prefix, PARTITIONS), _connection: connection })
    }

    /// Throws away what lies in the inbound and outbound partitions.
    ///
    /// # Errors
    /// When a queue is missing or RabbitMQ is away.
    pub(crate) async fn empty(&self) -> anyhow::Result<()> {
        for name in self.names() {
            self.channel.queue_purge(name.as_str().into(), QueuePurgeOptions::default()).await?;
        }
        Ok(())
    }

    /// Takes one message of the inbound partitions out, and returns its payload.
    ///
    /// # Errors
    /// When none is there.
    pub(crate) async fn take_inbound(&self) -> anyhow::Result<String> {
        for partition in 0..PARTITIONS {
            let name = self.topology.queue(Stage::Inbound, partition);
            let got = self.channel.basic_get(name.as_str().into(), BasicGetOptions { no_ack: true }).await?;
            if let Some(message) = got {
                return String::from_utf8(message.delivery.data).context("an envelope is JSON");
            }
        }
        anyhow::bail!("no message lies in the inbound queues")
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let stages = [Stage::Inbound, Stage::Outbound];
        stages
            .into_iter()
            .flat_map(move |stage| (0..PARTITIONS).map(move |partition| self.topology.queue(stage, partition)))
    }
}
