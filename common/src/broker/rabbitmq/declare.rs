//! Declares the exchanges and queues. All queues are quorum queues; <https://www.rabbitmq.com/docs/quorum-queues>.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind};

use super::failure;
use super::step::{answer, step};
use crate::broker::topology::MAX_LENGTH;
use crate::broker::{DELAY_STEPS, Stage, Topology};
use crate::failure::Failure;

/// A message that its consumers' channels ended with this many times is a dead letter: the last resort. Deploys and lost
/// connections count too, so whoever holds messages finds the one that kills it long before (`broker/suspects.rs`).
const DELIVERY_LIMIT: i64 = 1_000;
/// Dead letters are looked at and given back by operators as often as they like; 4.0 would drop them after 20 times.
const NO_DELIVERY_LIMIT: i64 = 2_000_000_000;
/// How long, in ms, RabbitMQ 4.3 waits for a consumer whose node died before the next one becomes active. It would be
/// 60,000; older releases do not wait and ignore the argument.
const CONSUMER_DISCONNECTED_TIMEOUT_MS: i64 = 3_000;
/// AMQP's limit for names, in bytes.
const LONGEST_NAME: usize = 255;

/// Declares all that `topology` names. Harmless when it is there already.
pub(super) async fn everything(connection: &Connection, topology: &Topology) -> Result<(), Failure> {
    if topology.delay(Stage::Outbound, "longest").len() > LONGEST_NAME {
        return Err(Failure::misconfigured("broker.prefix is too long for a queue name"));
    }
    let channel = step("cannot open a channel", connection.create_channel()).await?;
    let declare = Declare { channel, topology };
    declare.dead_letters().await?;
    for stage in Stage::ALL {
        declare.partitions(stage).await?;
        declare.delays(stage).await?;
    }
    declare.queue(&topology.probe(), probe_arguments()).await
}

/// Declares where dead letters lie.
pub(super) async fn dead_letters(connection: &Connection, topology: &Topology) -> Result<(), Failure> {
    let channel = step("cannot open a channel", connection.create_channel()).await?;
    Declare { channel, topology }.dead_letters().await
}

/// Declares what the consumers of `stage` need.
pub(super) async fn stage(channel: &Channel, topology: &Topology, stage: Stage) -> Result<(), Failure> {
    let declare = Declare { channel: channel.clone(), topology };
    declare.dead_letters().await?;
    declare.partitions(stage).await
}

struct Declare<'a> {
    channel: Channel,
    topology: &'a Topology,
}

impl Declare<'_> {
    async fn dead_letters(&self) -> Result<(), Failure> {
        let exchange = self.topology.dead_exchange();
        self.exchange(&exchange, ExchangeKind::Direct).await?;
        for stage in [Stage::Inbound, Stage::Outbound] {
            let queue = self.topology.dead_queue(stage);
            self.queue(&queue, with_delivery_limit(quorum(), NO_DELIVERY_LIMIT)).await?;
            self.bind(&queue, &exchange, Topology::dead_key(stage)).await?;
        }
        Ok(())
    }

    async fn partitions(&self, stage: Stage) -> Result<(), Failure> {
        let exchange = self.topology.exchange(stage);
        self.exchange(&exchange, ExchangeKind::Direct).await?;
        for partition in 0..self.topology.partitions_of(stage) {
            let queue = self.topology.queue(stage, partition);
            self.queue(&queue, partition_arguments(self.topology, stage)).await?;
            self.bind(&queue, &exchange, &partition.to_string()).await?;
        }
        Ok(())
    }

    async fn delays(&self, stage: Stage) -> Result<(), Failure> {
        for (step, delay) in DELAY_STEPS {
            let name = self.topology.delay(stage, step);
            let ttl_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            // Fanout, so that the routing key stays the partition's number on the way in and out.
            self.exchange(&name, ExchangeKind::Fanout).await?;
            let mut arguments = dead_lettering_to(quorum(), &self.topology.exchange(stage));
            arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ttl_ms));
            self.queue(&name, arguments).await?;
            self.bind(&name, &name, "").await?;
        }
        Ok(())
    }

    async fn exchange(&self, name: &str, kind: ExchangeKind) -> Result<(), Failure> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declaring = self.channel.exchange_declare(name.into(), kind, options, FieldTable::default());
        let declared = answer(&format!("cannot declare exchange {name}"), declaring).await?;
        declared.map_err(|error| refused("exchange", name, &error))
    }

    async fn queue(&self, name: &str, arguments: FieldTable) -> Result<(), Failure> {
        let declaring = self.channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments);
        let declared = answer(&format!("cannot declare queue {name}"), declaring).await?;
        declared.map(drop).map_err(|error| refused("queue", name, &error))
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), Failure> {
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let binding = self.channel.queue_bind(queue.into(), exchange.into(), key.into(), options, arguments);
        step(&format!("cannot bind queue {queue}"), binding).await
    }
}

fn refused(what: &str, name: &str, error: &lapin::Error) -> Failure {
    if failure::reply_code(error) != Some(406) {
        return failure::of_setup(&format!("cannot declare {what} {name}"), error);
    }
    failure::of_setup(
        &format!(
            "{what} {name} exists with other settings than this release and broker.max_length declare; set \
             broker.max_length as before, or drain and delete it (rabbitmqctl delete_queue, or the management page), or \
             choose another broker.prefix"
        ),
        error,
    )
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(MAX_LENGTH.into()));
    arguments
}

fn with_delivery_limit(mut arguments: FieldTable, limit: i64) -> FieldTable {
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(limit));
    arguments
}

fn dead_lettering_to(mut arguments: FieldTable, exchange: &str) -> FieldTable {
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(exchange.into()));
    arguments.insert("x-dead-letter-strategy".into(), AMQPValue::LongString("at-least-once".into()));
    arguments
}

fn partition_arguments(topology: &Topology, stage: Stage) -> FieldTable {
    let arguments = with_delivery_limit(quorum(), DELIVERY_LIMIT);
    let mut arguments = dead_lettering_to(arguments, &topology.dead_exchange());
    let key = AMQPValue::LongString(Topology::dead_key(stage).into());
    arguments.insert("x-dead-letter-routing-key".into(), key);
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(topology.max_length.into()));
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let timeout = AMQPValue::LongLongInt(CONSUMER_DISCONNECTED_TIMEOUT_MS);
    arguments.insert("x-consumer-disconnected-timeout".into(), timeout);
    arguments
}

/// A queue of one: each check pushes out the message of the one before.
fn probe_arguments() -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
    arguments
}

/// A queue that holds nothing: its length limit is the number of partitions, see [`super::partitions`].
pub(super) fn in_force_arguments(topology: &Topology) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(i64::from(topology.partitions)));
    arguments
}
