//! Declares the exchanges and queues. All queues are quorum queues; <https://www.rabbitmq.com/docs/quorum-queues>.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind};
use message::failure::{Failure, FailureKind};

use super::failure;
use super::step::{answer, step};
use crate::topology::MAX_LENGTH;
use crate::{DELAY_STEPS, Stage, Topology};

/// Deliveries after which RabbitMQ dead-letters a message: practically never. Deploys, lost connections, sick queues
/// and operators who look at dead letters cause any number of deliveries that reach no handler, so they count for
/// nothing; RabbitMQ 4.0 would drop the message after 20. A message that kills its process is found long before
/// (`common/work/src/poison.rs`).
const DELIVERY_LIMIT: i64 = 2_000_000_000;
/// The delivery limit of partitions that earlier releases declared. RabbitMQ refuses another one for a queue that
/// exists.
const FORMER_DELIVERY_LIMIT: i64 = 1_000;
/// How long, in ms, RabbitMQ 4.3 waits for a consumer whose node died before the next one becomes active. Its default
/// is 60,000; older releases do not wait and ignore the argument.
const CONSUMER_DISCONNECTED_TIMEOUT_MS: i64 = 3_000;
/// AMQP's limit for names, in bytes.
const LONGEST_NAME: usize = 255;

/// Declares every exchange and queue of `topology`. Harmless when they exist. If a queue fails and the others can still
/// be declared, they are, and the first such failure is returned as `Some`.
pub(super) async fn everything(connection: &Connection, topology: &Topology) -> Result<Option<Failure>, Failure> {
    if topology.delay(Stage::Outbound, "longest").len() > LONGEST_NAME {
        return Err(Failure::misconfigured("broker.prefix is too long for a queue name"));
    }
    let mut declare = Declare::new(connection, topology).await?;
    declare.all_dead_letters().await?;
    for stage in Stage::ALL {
        declare.exchange(&topology.exchange(stage), ExchangeKind::Direct).await?;
        for partition in 0..topology.partitions_of(stage) {
            let declared = declare.partition(stage, partition).await;
            declare.passes(declared).await?;
        }
        for step in DELAY_STEPS {
            let declared = declare.delay(stage, step).await;
            declare.passes(declared).await?;
        }
    }
    let declared = declare.queue(&topology.probe(), probe_arguments()).await;
    declare.passes(declared).await?;
    Ok(declare.skipped)
}

/// Declares the exchange and queues of the dead letters, in the same way.
pub(super) async fn dead_letters(connection: &Connection, topology: &Topology) -> Result<Option<Failure>, Failure> {
    let mut declare = Declare::new(connection, topology).await?;
    declare.all_dead_letters().await?;
    Ok(declare.skipped)
}

struct Declare<'a> {
    connection: &'a Connection,
    channel: Channel,
    topology: &'a Topology,
    /// Whether the last partition was declared by an earlier release: most likely the others were, too.
    finds_former: bool,
    skipped: Option<Failure>,
}

impl<'a> Declare<'a> {
    async fn new(connection: &'a Connection, topology: &'a Topology) -> Result<Self, Failure> {
        let channel = step("cannot open a channel", connection.create_channel()).await?;
        Ok(Self { connection, channel, topology, finds_former: false, skipped: None })
    }

    /// Keeps a failure that the next queue need not have, and goes on. Returns a misconfiguration, or any failure of a
    /// lost connection.
    async fn passes(&mut self, declared: Result<(), Failure>) -> Result<(), Failure> {
        match declared {
            Err(failure) if failure.kind == FailureKind::Misconfigured || !self.connection.status().connected() => {
                return Err(failure);
            }
            Err(failure) => {
                self.skipped.get_or_insert(failure);
                self.open_channel().await?;
            }
            Ok(()) => {}
        }
        Ok(())
    }

    async fn all_dead_letters(&mut self) -> Result<(), Failure> {
        let exchange = self.topology.dead_exchange();
        self.exchange(&exchange, ExchangeKind::Direct).await?;
        for stage in [Stage::Inbound, Stage::Outbound] {
            let declared = self.dead_letters_of(stage, &exchange).await;
            self.passes(declared).await?;
        }
        Ok(())
    }

    async fn dead_letters_of(&self, stage: Stage, exchange: &str) -> Result<(), Failure> {
        let queue = self.topology.dead_queue(stage);
        self.queue(&queue, with_delivery_limit(quorum(), DELIVERY_LIMIT)).await?;
        self.bind(&queue, exchange, Topology::dead_key(stage)).await
    }

    async fn partition(&mut self, stage: Stage, partition: u16) -> Result<(), Failure> {
        let queue = self.topology.queue(stage, partition);
        let mut declared = match self.finds_former && self.is_there(&queue).await? {
            true => self.partition_with(stage, &queue, FORMER_DELIVERY_LIMIT).await,
            false => self.partition_with(stage, &queue, DELIVERY_LIMIT).await,
        };
        if declared.as_ref().is_err_and(|refused| refused.to_string().contains("'x-delivery-limit'")) {
            // The refusal closes the channel, and RabbitMQ logs it: usually once per connection to an older
            // installation.
            self.open_channel().await?;
            let other = if self.finds_former { DELIVERY_LIMIT } else { FORMER_DELIVERY_LIMIT };
            self.finds_former = !self.finds_former;
            declared = self.partition_with(stage, &queue, other).await;
        }
        declared?;
        self.bind(&queue, &self.topology.exchange(stage), &partition.to_string()).await
    }

    async fn is_there(&mut self, queue: &str) -> Result<bool, Failure> {
        let options = QueueDeclareOptions::default().passive();
        let asking = self.channel.queue_declare(queue.into(), options, FieldTable::default());
        let answer = answer(&format!("cannot ask for queue {queue}"), asking).await?;
        if answer.is_err() {
            self.open_channel().await?;
        }
        Ok(answer.is_ok())
    }

    async fn open_channel(&mut self) -> Result<(), Failure> {
        self.channel = step("cannot open a channel", self.connection.create_channel()).await?;
        Ok(())
    }

    async fn partition_with(&self, stage: Stage, queue: &str, delivery_limit: i64) -> Result<(), Failure> {
        self.queue(queue, with_delivery_limit(partition_arguments(self.topology, stage), delivery_limit)).await
    }

    async fn delay(&self, stage: Stage, (step, delay): (&str, Duration)) -> Result<(), Failure> {
        let name = self.topology.delay(stage, step);
        let ttl_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        // Fanout, so that the routing key stays the partition's number on the way in and out.
        self.exchange(&name, ExchangeKind::Fanout).await?;
        let mut arguments = dead_lettering_to(quorum(), &self.topology.exchange(stage));
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ttl_ms));
        self.queue(&name, arguments).await?;
        self.bind(&name, &name, "").await
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
    let mut arguments = dead_lettering_to(quorum(), &topology.dead_exchange());
    let key = AMQPValue::LongString(Topology::dead_key(stage).into());
    arguments.insert("x-dead-letter-routing-key".into(), key);
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(topology.max_length.into()));
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let timeout = AMQPValue::LongLongInt(CONSUMER_DISCONNECTED_TIMEOUT_MS);
    arguments.insert("x-consumer-disconnected-timeout".into(), timeout);
    arguments
}

/// A queue of one message: each check pushes out the message of the check before.
fn probe_arguments() -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
    arguments
}

/// A queue that is always empty: its length limit is the partition count, see [`super::partitions`].
pub(super) fn in_force_arguments(topology: &Topology) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(i64::from(topology.partitions())));
    arguments
}
