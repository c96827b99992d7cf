//! Consumes one partition on a channel of its own, so that a fault of one partition does not affect another.
//!
//! A consumer ends by closing its channel: the broker then puts the unsettled messages back in front, in order. A
//! consumer is never cancelled, and lapin's `Consumer` is never dropped before the channel is closed, because that
//! cancels too: after a cancel the next consumer starts while this process still holds the unsettled messages. When the
//! *broker* cancels a consumer, its channel is closed likewise.
//!
//! RabbitMQ answers `basic.consume` on a queue without a leader by ending the whole *connection*. On a queue whose
//! leader hangs it does not answer for 65 s, then ends the connection too (3.10.8 and 4.3.6). So the partitions are
//! opened one after the other, and one that was being opened when a connection died is tried on a connection of its own
//! first.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection};
use message::failure::Failure;
use message::retry::RetryPolicy;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::closing::{CLOSE_TIMEOUT, CloseOnDrop};
use super::delivery::{Settle, Taken};
use super::failure;
use super::link::Purpose;
use super::step::step;
use super::subscribe::{Consumer, priority};
use super::wire::redeliveries;

/// How long the others wait while one partition is being opened, and how long that may take before the partition is
/// sick. A cluster elects a new leader in about a second.
const OPENING: Duration = Duration::from_secs(2);
/// Delays between attempts at one partition: without a leader each of them costs a connection.
const ATTEMPTS: RetryPolicy = RetryPolicy { initial: Duration::from_millis(100), max: Duration::from_secs(30) };
/// A partition that was consumed for this long starts over with the first delay, as does one that delivered anything.
const LONG_ENOUGH: Duration = Duration::from_secs(10);

type Deliveries = mpsc::UnboundedSender<Taken>;

/// One partition of the stage that `consumer` consumes.
pub(super) struct Partition<'a> {
    pub(super) consumer: &'a Consumer,
    pub(super) number: u16,
    /// The partition count when it began.
    pub(super) all: u16,
    pub(super) queue: String,
}

/// How an attempt ended.
enum Ended {
    /// The subscription is being closed.
    Stopped,
    /// The shared connection is not, or no longer, the one to use.
    GivenUp,
    /// The connection died while the partition was being opened on it.
    Suspect,
    Failed(String),
}

impl Partition<'_> {
    /// Consumes until `stop`, and starts over after every loss.
    pub(super) async fn run(self, deliveries: Deliveries, stop: CancellationToken) {
        let (link, standings) = (&self.consumer.link, &self.consumer.standings);
        let mut backoff = ATTEMPTS.start();
        let mut is_suspect = false;
        while let Some(Some(shared)) = stop.run_until_cancelled(link.up()).await {
            if self.consumer.topology.partitions_of(self.consumer.stage) != self.all {
                return stop.cancel();
            }
            let tried = match is_suspect {
                true => stop.run_until_cancelled(self.try_alone(&shared)).await,
                false => Some(Ok(())),
            };
            let (ended, has_held) = match tried {
                None => return,
                Some(Err(failure)) => (Ended::Failed(failure.to_string()), false),
                Some(Ok(())) => {
                    is_suspect = false;
                    self.attempt(&shared, &deliveries, &stop).await
                }
            };
            if has_held {
                backoff.reset();
            }
            match ended {
                Ended::Stopped => return,
                Ended::GivenUp => {
                    standings.waits(self.number);
                    continue;
                }
                Ended::Suspect => {
                    is_suspect = true;
                    standings.waits(self.number);
                }
                Ended::Failed(why) => standings.fails(self.number, &why),
            }
            let _stopped = stop.run_until_cancelled(sleep(backoff.next_delay(None))).await;
        }
    }

    /// One attempt on the connection that the partitions share. Returns how it ended, and whether it delivered anything
    /// or lasted for `LONG_ENOUGH`.
    async fn attempt(
        &self,
        shared: &Arc<Connection>,
        deliveries: &Deliveries,
        stop: &CancellationToken,
    ) -> (Ended, bool) {
        let is_asking = AtomicBool::new(false);
        let opening = async {
            tokio::select! {
                opened = self.open(shared, &is_asking) => Some(opened),
                () = self.consumer.link.gives_up(shared) => None,
                () = stop.cancelled() => None,
            }
        };
        let open = match opening.await {
            Some(Ok(open)) => open,
            _ if stop.is_cancelled() => return (Ended::Stopped, false),
            _ if is_asking.into_inner() && !shared.status().connected() => return (Ended::Suspect, false),
            Some(Err(failure)) if shared.status().connected() => return (Ended::Failed(failure.to_string()), false),
            _ => return (Ended::GivenUp, false),
        };
        self.consumer.standings.is_consumed(self.number);
        let (began, mut has_delivered) = (Instant::now(), false);
        let working = async {
            tokio::select! {
                why = pump(&open, self.consumer, deliveries, &mut has_delivered) => Ended::Failed(why),
                () = self.consumer.link.gives_up(shared) => Ended::GivenUp,
            }
        };
        let ended = stop.run_until_cancelled(working).await;
        open.close().await;
        let ended = match ended {
            None => Ended::Stopped,
            Some(Ended::Failed(_)) if !shared.status().connected() => Ended::GivenUp,
            Some(ended) => ended,
        };
        (ended, has_delivered || began.elapsed() >= LONG_ENOUGH)
    }

    async fn open(&self, shared: &Connection, is_asking: &AtomicBool) -> Result<Open, Failure> {
        let channel = channel(shared, self.consumer.prefetch).await?;
        let unopened = CloseOnDrop::channel(channel.clone());
        let mut turn = Some(self.consumer.link.turn().await);
        is_asking.store(shared.status().connected(), Ordering::Relaxed);
        let consumer = self.consume(&channel, || turn = None).await?;
        unopened.disarm();
        Ok(Open { channel, consumer })
    }

    /// Tries to consume the partition on a connection of its own, where a failure costs no other partition. If that
    /// works, it is then opened on the shared connection.
    async fn try_alone(&self, shared: &Arc<Connection>) -> Result<(), Failure> {
        let trying = async {
            let _place = self.consumer.link.place_alone().await;
            let (connection, _) = self.consumer.nodes.clone().connect(Purpose::Try.connection_name()).await?;
            let connection = Arc::new(connection);
            let _close = CloseOnDrop::connection(Arc::clone(&connection));
            let channel = channel(&connection, 1).await?;
            let consumer = self.consume(&channel, || ()).await?;
            Open { channel, consumer }.close().await;
            Ok(())
        };
        tokio::select! {
            tried = trying => tried,
            () = self.consumer.link.gives_up(shared) => Err(Failure::transient("its connection was given up")),
        }
    }

    /// Begins to consume on `channel`. There is no deadline: an answer comes with the leader, or RabbitMQ's own
    /// deadline ends the connection. Calls `is_slow` when it takes longer than `OPENING`.
    async fn consume(&self, channel: &Channel, is_slow: impl FnOnce()) -> Result<lapin::Consumer, Failure> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-priority".into(), AMQPValue::LongLongInt(priority(self.consumer.id, &self.queue)));
        let queue = self.queue.as_str().into();
        let mut consuming = pin!(channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), arguments));
        let answer = match timeout(OPENING, &mut consuming).await {
            Ok(answer) => answer,
            Err(_) => {
                is_slow();
                self.consumer.standings.fails(self.number, "does not answer");
                consuming.await
            }
        };
        answer.map_err(|error| {
            if failure::is_not_found(&error) {
                self.consumer.publisher.redeclare();
            }
            failure::of_setup("cannot be consumed", &error)
        })
    }
}

/// A channel of `connection` whose consumers hold at most `prefetch` messages each:
/// <https://www.rabbitmq.com/docs/consumer-prefetch>.
async fn channel(connection: &Connection, prefetch: u16) -> Result<Channel, Failure> {
    let channel = step("cannot open a channel", connection.create_channel()).await?;
    step("cannot set the prefetch", channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
    Ok(channel)
}

/// A channel with its consumer.
struct Open {
    channel: Channel,
    consumer: lapin::Consumer,
}

impl Open {
    async fn close(self) {
        if self.channel.status().connected() {
            let closed = timeout(CLOSE_TIMEOUT, self.channel.close(200, "done".into())).await;
            if !matches!(closed, Ok(Ok(()))) {
                tracing::debug!("a channel was lost while it was being closed");
            }
        }
        drop(self.consumer);
    }
}

/// Hands deliveries on until the consumer ends. Returns why it ended.
async fn pump(open: &Open, consumer: &Consumer, deliveries: &Deliveries, has_delivered: &mut bool) -> String {
    let mut stream = open.consumer.clone();
    let (channel, ended) = (Arc::new(open.channel.clone()), CancellationToken::new());
    let _ended = ended.clone().drop_guard();
    loop {
        let delivery = match ended.run_until_cancelled(stream.next()).await {
            Some(Some(Ok(delivery))) => delivery,
            Some(Some(Err(error))) => return format!("lost its channel: {error}"),
            // Without an error: the queue was deleted, or the broker cancelled the consumer.
            Some(None) => return "lost its consumer: the broker ended it".to_owned(),
            None => return "lost its channel: acknowledgements do not leave".to_owned(),
        };
        *has_delivered = true;
        let taken = Taken {
            redeliveries: redeliveries(&delivery.properties, delivery.redelivered),
            payload: delivery.data.into(),
            settler: Settle {
                acker: delivery.acker,
                channel: Arc::clone(&channel),
                tag: delivery.delivery_tag,
                publisher: Arc::clone(&consumer.publisher),
                ended: ended.clone(),
            },
        };
        if deliveries.send(taken).is_err() {
            return "is wanted by nothing any more".to_owned();
        }
    }
}
