//! The pipeline's floor: one bare program that moves the same bytes over the same two hops of quorum queues, with
//! confirms and acknowledgements. It makes as many Redis calls for each text as Switchboard does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use broker::{Stage, Topology};
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Confirmation, Connection, ConnectionProperties, Consumer};
use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::broker::{WINDOW, properties, publish};
use crate::latency::Percentiles;
use crate::meter::Meter;
use crate::pace::{Arrivals, Pace};
use crate::queues::PARTITIONS;
use crate::usage;

/// The prefetch of a worker or sender with default settings, for each partition.
const PREFETCH: u16 = 32;
/// The lifetime of a record in ms: 72 h, as in Switchboard.
const TTL_MS: i64 = 72 * 3_600_000;

/// The parameters of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// RabbitMQ.
    pub(crate) amqp_url: String,
    /// Redis.
    pub(crate) redis_url: String,
    /// The prefix of the queues' names and of the records' keys.
    pub(crate) prefix: String,
    /// The payload on the first hop.
    pub(crate) inbound: String,
    /// The payload on the second hop, which is also written to Redis.
    pub(crate) outbound: String,
    /// Reads from Redis for each text: the first on the first hop, the others on the second.
    pub(crate) reads: u32,
    /// Writes to Redis for each text: the first on the first hop, the last after the text has arrived.
    pub(crate) writes: u32,
    /// When texts begin.
    pub(crate) pace: Pace,
    /// The length of the run in seconds.
    pub(crate) seconds: f64,
}

/// The result of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Texts a second that came through.
    pub(crate) rate_per_s: f64,
    /// The number of texts in all.
    pub(crate) texts: u64,
    /// From the scheduled instant to the point at which Switchboard calls the provider.
    pub(crate) latency: Percentiles,
    /// CPU seconds of the program itself.
    pub(crate) cpu_s: f64,
}

/// Runs the floor as `order` says.
///
/// # Errors
/// When a server refuses a call.
pub(crate) async fn run(order: Order) -> anyhow::Result<Outcome> {
    let topology = Topology::new(&order.prefix, PARTITIONS);
    let redis = redis::Client::open(order.redis_url.as_str())?;
    let first = Sender::open(&order.amqp_url, topology.exchange(Stage::Inbound)).await?;
    let second = Sender::open(&order.amqp_url, topology.exchange(Stage::Outbound)).await?;
    let [worker, sender] =
        [redis.get_multiplexed_async_connection().await?, redis.get_multiplexed_async_connection().await?];
    let (inbound_connection, inbound) = consume(&order.amqp_url, &topology, Stage::Inbound).await?;
    let (outbound_connection, outbound) = consume(&order.amqp_url, &topology, Stage::Outbound).await?;
    // The clock starts only now that all connections are open.
    let (began, meter) = (Instant::now(), Meter::start(order.seconds)?);
    let arrivals = Arrivals::start(order.pace, order.seconds);
    let hop = Arc::new(Hop { order, first, second, worker, sender, began, meter, arrivals });
    let (moved, arrived) = mpsc::unbounded_channel();
    let mut working = JoinSet::new();
    working.spawn(work(Arc::clone(&hop), inbound, Hop::answer, moved.clone()));
    working.spawn(work(Arc::clone(&hop), outbound, Hop::send, moved));
    let accepted = accept_all(&hop).await?;
    // Both hops must be empty: a message without an acknowledgement would come again in the next run. Closing waits for
    // RabbitMQ's answer, so the last acknowledgements have arrived by then.
    all_moved(2 * accepted, arrived, working).await?;
    for connection in [inbound_connection, outbound_connection] {
        connection.close(200, "done".into()).await?;
    }
    let (texts, rate_per_s, latency) = hop.meter.read();
    ensure!(texts == accepted, "{texts} of {accepted} texts came through");
    Ok(Outcome { rate_per_s, texts, latency, cpu_s: usage::cpu_s(std::process::id())? })
}

/// Publishes texts as they become due. Returns their number once all are confirmed.
async fn accept_all(hop: &Arc<Hop>) -> anyhow::Result<u64> {
    let mut accepting = JoinSet::new();
    let mut accepted: u64 = 0;
    while let Some(due) = hop.arrivals.next().await {
        let hop = Arc::clone(hop);
        let partition = u16::try_from(accepted % u64::from(PARTITIONS))?;
        accepting.spawn(async move { hop.accept(partition, due).await });
        accepted += 1;
        while let Some(done) = accepting.try_join_next() {
            done??;
        }
    }
    while let Some(done) = accepting.join_next().await {
        done??;
    }
    Ok(accepted)
}

/// Returns once `count` messages have left their hop.
async fn all_moved(
    count: u64,
    mut arrived: mpsc::UnboundedReceiver<()>,
    mut working: JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    for _ in 0..count {
        tokio::select! {
            one = arrived.recv() => one.context("the hops ended")?,
            Some(ended) = working.join_next() => ended??,
        }
    }
    Ok(())
}

/// A channel with confirms.
struct Sender {
    channel: Channel,
    exchange: String,
    window: Semaphore,
    /// Held while a message is sent: lapin counts a message and sends it in two steps.
    turn: Mutex<()>,
    _connection: Connection,
}

impl Sender {
    async fn open(amqp_url: &str, exchange: String) -> anyhow::Result<Self> {
        let connection = Connection::connect(amqp_url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let (window, turn) = (Semaphore::new(WINDOW as usize), Mutex::default());
        Ok(Self { channel, exchange, window, turn, _connection: connection })
    }

    /// Publishes a message and returns once it is confirmed. `due` travels along as the message id.
    async fn publish(&self, partition: u16, payload: &str, due: &str) -> anyhow::Result<()> {
        let _permit = self.window.acquire().await?;
        let turn = self.turn.lock().await;
        let properties = properties().with_message_id(due.into());
        let confirm = publish(&self.channel, &self.exchange, partition, payload.as_bytes(), properties).await?;
        drop(turn);
        ensure!(matches!(confirm.await?, Confirmation::Ack(None)), "a message was not confirmed");
        Ok(())
    }
}

struct Hop {
    order: Order,
    first: Sender,
    second: Sender,
    worker: MultiplexedConnection,
    sender: MultiplexedConnection,
    began: Instant,
    meter: Meter,
    arrivals: Arrivals,
}

impl Hop {
    async fn accept(&self, partition: u16, due: Instant) -> anyhow::Result<()> {
        let due = format!("{:036}", due.saturating_duration_since(self.began).as_nanos());
        self.first.publish(partition, &self.order.inbound, &due).await
    }

    async fn answer(self: Arc<Self>, delivery: Delivery, name: String) -> anyhow::Result<()> {
        let mut redis = self.worker.clone();
        self.read(redis.clone(), &name).await?;
        self.write(&mut redis, &name).await?;
        let partition = delivery.routing_key.as_str().parse()?;
        self.second.publish(partition, &self.order.outbound, &name).await?;
        delivery.acker.ack(BasicAckOptions::default()).await?;
        Ok(())
    }

    async fn send(self: Arc<Self>, delivery: Delivery, name: String) -> anyhow::Result<()> {
        let mut redis = self.sender.clone();
        // All reads run at once, as in Switchboard.
        try_join_all((1..self.order.reads).map(|_| self.read(self.sender.clone(), &name))).await?;
        for _ in 2..self.order.writes {
            self.write(&mut redis, &name).await?;
        }
        let due = Duration::from_nanos(name.parse()?);
        self.meter.note(self.began + due, Instant::now());
        self.arrivals.done();
        self.write(&mut redis, &name).await?;
        delivery.acker.ack(BasicAckOptions::default()).await?;
        Ok(())
    }

    fn key(&self, name: &str) -> String {
        format!("{}:floor:{name}", self.order.prefix)
    }

    async fn read(&self, mut redis: MultiplexedConnection, name: &str) -> anyhow::Result<()> {
        let mut ask = redis::cmd("HMGET");
        let (_value, _version): (Option<Vec<u8>>, Option<u64>) =
            ask.arg(self.key(name)).arg(&["v", "n"]).query_async(&mut redis).await?;
        Ok(())
    }

    async fn write(&self, redis: &mut MultiplexedConnection, name: &str) -> anyhow::Result<()> {
        let (key, mut both) = (self.key(name), redis::pipe());
        both.hset_multiple(&key, &[("v", self.order.outbound.as_str()), ("n", "1")]).ignore();
        both.pexpire(&key, TTL_MS).ignore();
        both.exec_async(redis).await?;
        Ok(())
    }
}

/// Consumes all partitions of `stage` on a separate connection.
async fn consume(amqp_url: &str, topology: &Topology, stage: Stage) -> anyhow::Result<(Connection, Vec<Consumer>)> {
    let connection = Connection::connect(amqp_url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let mut consumers = Vec::new();
    for partition in 0..PARTITIONS {
        let queue = topology.queue(stage, partition);
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        consumers.push(channel.basic_consume(queue.as_str().into(), "".into(), options, arguments).await?);
    }
    Ok((connection, consumers))
}

/// Runs `step` on every delivery, each in its own task, and reports each one that is done.
async fn work<Step, Working>(
    hop: Arc<Hop>,
    consumers: Vec<Consumer>,
    step: Step,
    done: mpsc::UnboundedSender<()>,
) -> anyhow::Result<()>
where
    Step: Fn(Arc<Hop>, Delivery, String) -> Working,
    Working: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut deliveries = futures_util::stream::select_all(consumers);
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            delivery = deliveries.next() => {
                let delivery = delivery.context("a consumer ended")??;
                let name = delivery.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
                running.spawn(step(Arc::clone(&hop), delivery, name));
            }
            Some(ended) = running.join_next(), if !running.is_empty() => {
                ended??;
                done.send(())?;
            }
        }
    }
}
