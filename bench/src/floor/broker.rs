//! The broker floor: bare lapin publishes the same bytes to the same queues, each with a confirm, a bounded number at a
//! time.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use broker::{Stage, Topology};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, PublisherConfirm};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::latency::{Latencies, Percentiles};
use crate::pace::{Arrivals, Pace};
use crate::queues::PARTITIONS;
use crate::usage;

/// The most messages that Switchboard has unconfirmed at a time.
pub(crate) const WINDOW: u32 = 100;

/// The number of messages that each queue gets before the measurement starts.
const WARM_UP: u32 = 10;

/// The parameters of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The server.
    pub(crate) amqp_url: String,
    /// The prefix of the queues' names.
    pub(crate) prefix: String,
    /// An envelope's bytes.
    pub(crate) payload: String,
    /// The most messages that are unconfirmed at a time.
    pub(crate) window: u32,
    /// When messages are published.
    pub(crate) pace: Pace,
    /// The length of the run in seconds.
    pub(crate) seconds: f64,
}

/// The result of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Confirmed messages a second.
    pub(crate) rate_per_s: f64,
    /// The number of confirmed messages.
    pub(crate) count: u64,
    /// From the scheduled instant to the confirm.
    pub(crate) latency: Percentiles,
    /// CPU seconds of the program itself, including its start.
    pub(crate) cpu_s: f64,
}

/// Publishes as `order` says.
///
/// # Errors
/// When a message is not confirmed.
pub(crate) async fn run(order: Order) -> anyhow::Result<Outcome> {
    let connection = Connection::connect(&order.amqp_url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let exchange = Topology::new(&order.prefix, PARTITIONS).exchange(Stage::Inbound);
    warm_up(&channel, &exchange, order.payload.as_bytes()).await?;
    let window = Arc::new(Semaphore::new(order.window as usize));
    let began = Instant::now();
    let arrivals = Arrivals::start(order.pace, order.seconds);
    let (mut confirming, mut latencies) = (JoinSet::new(), Latencies::new()?);
    for partition in (0..PARTITIONS).cycle() {
        let Some(scheduled) = arrivals.next().await else { break };
        let permit = Arc::clone(&window).acquire_owned().await?;
        // Without a schedule the latency counts from when the window has room.
        let due = if matches!(order.pace, Pace::Saturating) { Instant::now() } else { scheduled };
        let confirm = publish(&channel, &exchange, partition, order.payload.as_bytes(), properties()).await?;
        confirming.spawn(confirmed(confirm, due, permit));
        while let Some(done) = confirming.try_join_next() {
            latencies.note_duration(done??);
        }
    }
    while let Some(done) = confirming.join_next().await {
        latencies.note_duration(done??);
    }
    let elapsed = began.elapsed();
    let (count, latency, cpu_s) = (latencies.count(), latencies.percentiles(), usage::cpu_s(std::process::id())?);
    #[allow(clippy::cast_precision_loss, reason = "no run has 2^52 messages")]
    let rate_per_s = count as f64 / elapsed.as_secs_f64();
    Ok(Outcome { rate_per_s, count, latency, cpu_s })
}

/// Publishes a few messages to each queue, because Switchboard's connection is not fresh either when it is measured.
async fn warm_up(channel: &Channel, exchange: &str, payload: &[u8]) -> anyhow::Result<()> {
    for _ in 0..WARM_UP {
        let mut confirms = Vec::new();
        for partition in 0..PARTITIONS {
            confirms.push(publish(channel, exchange, partition, payload, properties()).await?);
        }
        for confirm in confirms {
            ensure!(matches!(confirm.await?, Confirmation::Ack(None)), "a message was not confirmed");
        }
    }
    Ok(())
}

/// Publishes one message as Switchboard does, mandatory.
pub(crate) async fn publish(
    channel: &Channel,
    exchange: &str,
    partition: u16,
    payload: &[u8],
    properties: BasicProperties,
) -> anyhow::Result<PublisherConfirm> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let key = partition.to_string();
    let sent = channel.basic_publish(exchange.into(), key.as_str().into(), options, payload, properties);
    sent.await.context("cannot publish")
}

/// The properties of Switchboard's messages: persistent, with a message id and a trace.
pub(crate) fn properties() -> BasicProperties {
    let mut headers = FieldTable::default();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    headers.insert("traceparent".into(), AMQPValue::LongString(trace.into()));
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_timestamp(1_800_000_000)
        .with_headers(headers)
        .with_message_id("0195e9b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b".into())
}

async fn confirmed(
    confirm: PublisherConfirm,
    due: Instant,
    permit: OwnedSemaphorePermit,
) -> anyhow::Result<std::time::Duration> {
    let confirmation = confirm.await?;
    let latency = due.elapsed();
    drop(permit);
    ensure!(matches!(confirmation, Confirmation::Ack(None)), "a message was not confirmed");
    Ok(latency)
}
