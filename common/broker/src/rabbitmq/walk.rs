//! A walk through the dead-letter queues. The letters that it has read are held unsettled on one channel. When the
//! channel closes they go back to the front of their queue, so none is lost, even if this process dies.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::SelectAll;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use message::failure::Failure;
use message::retry::RetryPolicy;
use tokio::time::{Instant, timeout, timeout_at};

use super::depths::waiting;
use super::link::Link;
use super::publish::Publisher;
use super::step::{answer, step};
use super::{dead_letter, failure};
use crate::dead_letters::{DeadLetter, LetterTag, Walk};
use crate::{Outgoing, Stage, Topology};

/// How long a walk waits for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How many letters one consumer holds. Quorum queues take "no limit" for 2,000, so another consumer starts when one is
/// full.
const HELD_BY_ONE: u16 = 10_000;
/// The walk ends once the broker has handed out as many letters as it counted, and then none for this long: the letters
/// of a walk that was just killed come back a moment later.
const SILENCE: Duration = Duration::from_millis(500);
/// How long the broker may take to hand out the letters that it counted and those that died since, and to take back the
/// held ones.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a walk waits for another one to end: RabbitMQ notices a killed walk a moment later.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// How many requests a queue must answer before its channel closes. A RabbitMQ channel defers acknowledgements that
/// come faster than a quorum queue takes them, and drops the deferred ones when it closes. The first answer means that
/// the queue has taken what was sent; the channel then sends all that it had deferred, and the second answer comes
/// after that. The third is for certainty.
const QUESTIONS_BEFORE_CLOSE: usize = 3;
/// RabbitMQ's reply code when another connection has the exclusive queue.
const RESOURCE_LOCKED: u16 = 405;

/// A walk through the dead letters of one or two queues.
pub(super) struct RabbitWalk {
    /// The connection is closed when the last clone of this is dropped.
    _link: Link,
    connection: Arc<Connection>,
    channel: Channel,
    publisher: Arc<Publisher>,
    topology: Topology,
    /// The queues still to be walked, by the stage that names them.
    shelves: VecDeque<Stage>,
    shelf: Option<Shelf>,
    /// Queues that were walked. Their consumers stay until the channel is closed: dropping one cancels it.
    passed: Vec<Shelf>,
}

/// The walk's state in one queue.
struct Shelf {
    stage: Stage,
    consumers: SelectAll<Consumer>,
    /// How many letters are still to come, by the broker's count.
    left: u64,
    /// How many of the received letters are not settled.
    held: u64,
    /// Whether any received letter was settled.
    has_settled: bool,
    ends_at: Option<Instant>,
    /// The highest tag received: tags count up, shelf after shelf.
    last_tag: u64,
}

impl RabbitWalk {
    /// Begins a walk. It must be the only one: waits a moment for another one to end, then fails.
    pub(super) async fn open(
        link: Link,
        publisher: Arc<Publisher>,
        topology: Topology,
        stage: Option<Stage>,
    ) -> Result<Self, Failure> {
        publisher.connected(CONNECT_TIMEOUT).await?;
        let connection = timeout(CONNECT_TIMEOUT, link.up()).await.ok().flatten().ok_or_else(|| link.why_down())?;
        let channel = lock(&connection, &topology).await?;
        step("cannot set the prefetch", channel.basic_qos(HELD_BY_ONE, BasicQosOptions::default())).await?;
        let shelves = [Stage::Inbound, Stage::Outbound].into_iter();
        let is_wanted = |shelf: &Stage| stage.is_none_or(|s| topology.dead_queue(s) == topology.dead_queue(*shelf));
        let shelves = shelves.filter(is_wanted).collect();
        Ok(Self { _link: link, connection, channel, publisher, topology, shelves, shelf: None, passed: Vec::new() })
    }

    async fn start(&self, stage: Stage) -> Result<Shelf, Failure> {
        let left = waiting(&self.channel, &self.topology.dead_queue(stage)).await?;
        let mut shelf =
            Shelf { stage, consumers: SelectAll::new(), left, held: 0, has_settled: false, ends_at: None, last_tag: 0 };
        self.consume(&mut shelf).await?;
        Ok(shelf)
    }

    async fn consume(&self, shelf: &mut Shelf) -> Result<(), Failure> {
        let queue = self.topology.dead_queue(shelf.stage);
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consuming = self.channel.basic_consume(queue.as_str().into(), "".into(), options, arguments);
        shelf.consumers.push(step(&format!("cannot consume queue {queue}"), consuming).await?);
        Ok(())
    }

    /// The next letter of `shelf`; `None` at its end.
    async fn step(&mut self, shelf: &mut Shelf) -> Result<Option<DeadLetter>, Failure> {
        let consumers = u64::try_from(shelf.consumers.len()).unwrap_or(u64::MAX);
        if shelf.held >= consumers.saturating_mul(HELD_BY_ONE.into()) {
            self.consume(shelf).await?;
        }
        let until = if shelf.left == 0 {
            let ends_at = *shelf.ends_at.get_or_insert_with(|| Instant::now() + PATIENCE);
            ends_at.min(Instant::now() + SILENCE)
        } else {
            Instant::now() + PATIENCE
        };
        let next = match timeout_at(until, shelf.consumers.next()).await {
            Ok(next) => next,
            Err(_) if shelf.left == 0 => return Ok(None),
            Err(_) => {
                let left = shelf.left;
                return Err(Failure::transient(format!(
                    "the broker hands out no more, though {left} dead letters are left"
                )));
            }
        };
        let lost = || Failure::transient("the broker ended the walk through the dead letters");
        let delivery =
            next.ok_or_else(lost)?.map_err(|error| failure::of_setup("the dead letters were lost", &error))?;
        shelf.left = shelf.left.saturating_sub(1);
        shelf.held += 1;
        let tag = LetterTag(delivery.delivery_tag);
        shelf.last_tag = shelf.last_tag.max(tag.0);
        Ok(Some(dead_letter::read(delivery, shelf.stage, tag)))
    }

    /// Closes the channel, waits until the letters that it held are back for the next walk, and releases the lock.
    async fn give_back(&self) -> Result<(), Failure> {
        let unclosed = |error| failure::of_setup("cannot close a channel", &error);
        for shelf in self.passed.iter().chain(&self.shelf).filter(|shelf| shelf.has_settled) {
            for _ in 0..QUESTIONS_BEFORE_CLOSE {
                // Only a get is answered after the acknowledgements. A letter that it returns goes back like all held
                // ones.
                let queue = self.topology.dead_queue(shelf.stage);
                let asking = self.channel.basic_get(queue.as_str().into(), BasicGetOptions::default());
                asking.await.map_err(unclosed)?;
            }
        }
        self.channel.close(200, "done".into()).await.map_err(unclosed)?;
        let channel = self.connection.create_channel().await.map_err(unclosed)?;
        for shelf in self.passed.iter().chain(&self.shelf) {
            let mut backoff = RetryPolicy::NEAR.start();
            while waiting(&channel, &self.topology.dead_queue(shelf.stage)).await? < shelf.held {
                tokio::time::sleep(backoff.next_delay(None)).await;
            }
        }
        let lock = self.topology.dead_lock();
        channel.queue_delete(lock.as_str().into(), QueueDeleteOptions::default()).await.map_err(unclosed)?;
        Ok(())
    }

    async fn settle(&mut self, tag: LetterTag) -> Result<(), Failure> {
        // With a deadline: lapin never answers an acknowledgement that it took just when its connection ended.
        let settling = self.channel.basic_ack(tag.0, BasicAckOptions::default());
        step("a dead letter cannot be taken off", settling).await?;
        let shelf = self.passed.iter_mut().chain(&mut self.shelf).find(|shelf| tag.0 <= shelf.last_tag);
        if let Some(shelf) = shelf {
            shelf.held = shelf.held.saturating_sub(1);
            shelf.has_settled = true;
        }
        Ok(())
    }
}

#[async_trait]
impl Walk for RabbitWalk {
    async fn next(&mut self) -> Result<Option<DeadLetter>, Failure> {
        loop {
            let mut shelf = match self.shelf.take() {
                Some(shelf) => shelf,
                None => match self.shelves.pop_front() {
                    Some(stage) => self.start(stage).await?,
                    None => return Ok(None),
                },
            };
            let found = self.step(&mut shelf).await;
            if matches!(found, Ok(None)) && !self.shelves.is_empty() {
                self.passed.push(shelf);
                continue;
            }
            self.shelf = Some(shelf);
            return found;
        }
    }

    async fn replay(&mut self, letters: &[(LetterTag, Outgoing)]) -> Result<u64, Failure> {
        let messages: Vec<Outgoing> = letters.iter().map(|(_, message)| message.clone()).collect();
        self.publisher.publish(&messages).await?;
        for (tag, _) in letters {
            self.settle(*tag).await?;
        }
        Ok(u64::try_from(letters.len()).unwrap_or(u64::MAX))
    }

    async fn discard(&mut self, tag: LetterTag) -> Result<bool, Failure> {
        self.settle(tag).await.map(|()| true)
    }

    async fn close(self: Box<Self>) {
        if !matches!(timeout(PATIENCE, self.give_back()).await, Ok(Ok(()))) {
            tracing::debug!("the broker was lost at the end of a walk through the dead letters");
        }
    }
}

/// Takes the lock, an exclusive queue. Returns a channel of the connection that holds it.
async fn lock(connection: &Connection, topology: &Topology) -> Result<Channel, Failure> {
    let mut backoff = RetryPolicy::NEAR.start();
    let give_up_at = Instant::now() + LOCK_PATIENCE;
    loop {
        // Each attempt on a channel of its own: a refusal closes it.
        let channel = step("cannot open a channel", connection.create_channel()).await?;
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let name = topology.dead_lock();
        let declaring = channel.queue_declare(name.as_str().into(), options, FieldTable::default());
        match answer("cannot lock the dead letters", declaring).await? {
            Ok(_) => return Ok(channel),
            Err(error) if failure::reply_code(&error) != Some(RESOURCE_LOCKED) => {
                return Err(failure::of_setup("cannot lock the dead letters", &error));
            }
            Err(_) if Instant::now() >= give_up_at => {
                let what = "somebody else is at the dead letters just now: wait until that command has ended";
                return Err(Failure::transient(what));
            }
            Err(_) => tokio::time::sleep(backoff.next_delay(None)).await,
        }
    }
}
