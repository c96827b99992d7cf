//! A stand-in for the sender when only the worker is measured: it takes the parts of replies off their queues.

use std::sync::Arc;
use std::time::Instant;

use broker::{Stage, Topology};
use futures_util::StreamExt as _;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use tokio::task::JoinSet;

use crate::queues::PARTITIONS;
use crate::tally::Tally;

/// A sink that takes parts until it is dropped.
#[derive(Debug)]
pub(crate) struct Sink {
    _taking: JoinSet<()>,
    _connection: Connection,
}

impl Sink {
    /// Takes the parts from the queues whose names begin with `prefix`, and notes each in `tally`.
    ///
    /// # Errors
    /// When RabbitMQ is away or a queue does not exist.
    pub(crate) async fn open(amqp_url: &str, prefix: &str, tally: Arc<Tally>) -> anyhow::Result<Self> {
        let connection = Connection::connect(amqp_url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let (topology, mut consumers) = (Topology::new(prefix, PARTITIONS), Vec::new());
        for partition in 0..PARTITIONS {
            let queue = topology.queue(Stage::Outbound, partition);
            // A part is never given back, so it needs no acknowledgement.
            let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
            consumers
                .push(channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default()).await?);
        }
        let mut taking = JoinSet::new();
        taking.spawn(async move {
            let mut deliveries = futures_util::stream::select_all(consumers);
            // If the connection is lost, the wait for the tally reports it.
            while let Some(Ok(delivery)) = deliveries.next().await {
                let name = delivery.properties.message_id().as_ref().map(ToString::to_string);
                tally.note(&name.unwrap_or_default(), Instant::now());
            }
        });
        Ok(Self { _taking: taking, _connection: connection })
    }
}
