//! One partition, consumed for itself on a channel of its own: what becomes of another one is nothing to it.
//!
//! A channel is closed, and the broker then puts what was unsettled back in front, in order. We never cancel a
//! consumer, and never drop lapin's `Consumer` before the channel is closed, because that cancels too: after a cancel the
//! next consumer starts while the unsettled messages are still here. A consumer that the *broker* cancels is such an end.
//!
//! RabbitMQ answers `basic.consume` on a queue without a leader with the end of the whole *connection*, and on one whose
//! leader hangs with nothing for 65 s, then likewise (3.10.8 and 4.3.6). So the partitions are opened one after the
//! other, and one that was being opened when a connection died is tried on a connection of its own first.

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

/// How long the others wait while one partition is being opened, and how long that may take before it is sick. A cluster
/// elects a new leader in about a second.
const OPENING: Duration = Duration::from_secs(2);
/// Delays between attempts at one partition: without a leader each of them costs a connection.
const ATTEMPTS: RetryPolicy = RetryPolicy { initial: Duration::from_millis(100), max: Duration::from_secs(30) };
/// What was consumed for this long begins with the first delay again, as what delivered anything does.
const LONG_ENOUGH: Duration = Duration::from_secs(10);

type Deliveries = mpsc::UnboundedSender<Taken>;

/// One partition of what `consumer` consumes.
pub(super) struct Partition<'a> {
    pub(super) consumer: &'a Consumer,
    pub(super) number: u16,
    /// How many there were when it began.
    pub(super) all: u16,
    pub(super) queue: String,
}

/// How an attempt ended.
enum Ended {
    /// We are to stop.
    Stopped,
    /// The shared connection is not, or no longer, the one to use.
    GivenUp,
    /// The connection died while the partition was being opened on it.
    Suspect,
    Failed(String),
}

impl Partition<'_> {
    /// Consumes until `stop`, through every loss.
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

    /// One attempt on the connection that the partitions share; tells how it ended, and whether it had held.
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

    /// Whether the partition can be consumed, found out where it costs no other: it is then opened as they are.
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

    /// Begins to consume on `channel`. There is no deadline: an answer comes with the leader, or the end of the connection
    /// with RabbitMQ's own. Tells `is_slow` when it takes long.
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

/// A channel of `connection` whose consumers hold `prefetch` each:
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

/// Hands deliveries on until the consumer ends, and tells why it did.
async fn pump(open: &Open, consumer: &Consumer, deliveries: &Deliveries, has_delivered: &mut bool) -> String {
    let mut stream = open.consumer.clone();
    let (channel, ended) = (Arc::new(open.channel.clone()), CancellationToken::new());
    let _ended = ended.clone().drop_guard();
    loop {
        let delivery = match ended.run_until_cancelled(stream.next()).await {
            Some(Some(Ok(delivery))) => delivery,
            Some(Some(Err(error))) => return format!("lost its channel: {error}"),
            // An end without an error is one too: the queue was deleted, or the broker cancelled the consumer.
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
