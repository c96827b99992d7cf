//! Publishes with confirms: persistent, mandatory, each conversation in order, a bounded number in flight, every
//! message with a deadline. A fault of one queue does not affect the others.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use lapin::{BasicProperties, Confirmation, Connection};
use message::ConversationKey;
use message::clock::Clock;
use message::failure::Failure;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::link::Link;
use super::routes::{Answers, Owed, Routes, SLOW, Trouble};
use super::step::step;
use super::wire::{Route, properties, route};
use super::{depths, failure};
use crate::{Depths, Destination, Outgoing, Topology};

/// How long a call may take: there are no confirms during an outage or a memory alarm. `EACH` is added for each message
/// of the call, because all of them may belong to one conversation.
const DEADLINE: Duration = Duration::from_secs(10);
const EACH: Duration = Duration::from_millis(5);
/// How long a check waits for its own queue, before it looks at the confirms of other messages.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);
/// A message that was confirmed this recently shows that the broker takes messages.
const RECENT: Duration = Duration::from_secs(30);
/// How long a call waits for a connection that is away.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(1);
/// How many messages may be unconfirmed at a time, not counting slow ones: more gains little and waits longer.
const WINDOW: usize = 100;

/// `messages` in chains, one for each conversation: each message must be confirmed before the next one is published. A
/// full queue refuses messages one by one, and may refuse a conversation's first message and take its second. Published
/// again, the first would then come after the second.
fn chains(messages: Vec<Ready<'_>>) -> Vec<Vec<Ready<'_>>> {
    let mut begun: HashMap<(ConversationKey, String), usize> = HashMap::new();
    let mut chains: Vec<Vec<_>> = Vec::new();
    for message in messages {
        let new = chains.len();
        let chain = message.key.map_or(new, |key| *begun.entry((key, message.route.exchange.clone())).or_insert(new));
        match chains.get_mut(chain) {
            Some(chain) => chain.push(message),
            None => chains.push(vec![message]),
        }
    }
    chains
}

fn count_failure(queue: &'static str, trouble: Trouble) {
    let kind = trouble.as_str();
    metrics::counter!("switchboard_publish_failures_total", "queue" => queue, "kind" => kind).increment(1);
}

/// Publishes on one connection.
#[derive(Debug)]
pub(super) struct Publisher {
    link: Link,
    topology: Topology,
    clock: Clock,
    routes: Routes,
    window: Semaphore,
    began: Instant,
    /// When a message was last confirmed, in ms after `began`; 0 for never. The messages of checks do not count.
    confirmed_ms: AtomicU64,
}

/// A message ready to be published.
struct Ready<'a> {
    /// The conversation within which it keeps its order.
    key: Option<ConversationKey>,
    route: Route,
    properties: BasicProperties,
    payload: &'a [u8],
}

/// Why a message is not known to be published.
struct Unpublished {
    trouble: Trouble,
    failure: Failure,
}

impl Unpublished {
    fn new(trouble: Trouble, failure: Failure) -> Self {
        Self { trouble, failure }
    }
}

impl Publisher {
    pub(super) fn new(link: Link, topology: Topology, clock: Clock) -> Self {
        Self {
            link,
            topology,
            clock,
            routes: Routes::default(),
            window: Semaphore::new(WINDOW),
            began: Instant::now(),
            confirmed_ms: AtomicU64::default(),
        }
    }

    /// See [`crate::Broker::publish`].
    pub(super) async fn publish(&self, messages: &[Outgoing]) -> Result<(), Failure> {
        let give_up_at = Instant::now() + DEADLINE + EACH.saturating_mul(messages.len().try_into().unwrap_or(u32::MAX));
        // First: the partition count is certain only while connected, and does not change on a connection.
        if let Err(failure) = self.connected(CONNECTION_PATIENCE).await {
            messages.iter().for_each(|message| {
                let Route { exchange, key } = route(&self.topology, message);
                count_failure(self.topology.queue_at(&exchange, &key).1, Trouble::Away);
            });
            return Err(failure);
        }
        let publishing = chains(messages.iter().map(|message| self.ready(message)).collect()).into_iter().map(
            async |chain: Vec<Ready<'_>>| {
                for message in chain {
                    self.publish_one(&message, give_up_at).await?;
                    self.note_confirmed();
                }
                Ok(())
            },
        );
        let published: Vec<Result<(), Unpublished>> = join_all(publishing).await;
        published.into_iter().collect::<Result<(), _>>().map_err(|unpublished| unpublished.failure)
    }

    fn ready<'a>(&self, message: &'a Outgoing) -> Ready<'a> {
        // Dead letters have no order: a walk sorts them.
        let is_ordered = !matches!(message.destination, Destination::Dead(..));
        Ready {
            key: message.key.filter(|_| is_ordered),
            route: route(&self.topology, message),
            properties: properties(message, self.clock.now()),
            payload: &message.payload,
        }
    }

    /// Waits for a connection, for `patience` at most.
    pub(super) async fn connected(&self, patience: Duration) -> Result<(), Failure> {
        let connection = timeout(patience, self.link.up()).await.ok().flatten();
        connection.map(drop).ok_or_else(|| self.link.why_down())
    }

    /// Asks for missing queues to be declared again.
    pub(super) fn redeclare(&self) {
        self.link.redeclare();
    }

    /// See [`crate::Broker::check`]. If the queue of the checks is the sick one, recent confirms of other messages
    /// count.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let route = Route { exchange: String::new(), key: self.topology.probe() };
        let probe = Ready { key: None, route, properties: BasicProperties::default(), payload: b"" };
        match self.publish_one(&probe, Instant::now() + PROBE_DEADLINE).await {
            Err(Unpublished { trouble, .. }) if trouble.of_queue().is_some() && self.confirmed_recently() => Ok(()),
            checked => checked.map_err(|unpublished| unpublished.failure),
        }
    }

    fn note_confirmed(&self) {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.confirmed_ms.store(now_ms.max(1), Ordering::Relaxed);
    }

    fn confirmed_recently(&self) -> bool {
        let at_ms = self.confirmed_ms.load(Ordering::Relaxed);
        at_ms > 0 && self.began.elapsed() < Duration::from_millis(at_ms) + RECENT
    }

    /// See [`crate::Broker::depths`].
    pub(super) async fn depths(&self) -> Result<Depths, Failure> {
        let connection = self.connection().await.map_err(|unpublished| unpublished.failure)?;
        let counted = timeout(DEADLINE, depths::all(&connection, &self.topology)).await;
        let counted = counted.unwrap_or_else(|_| Err(Failure::transient("the broker did not count in time")));
        if counted.is_err() {
            self.link.redeclare();
        }
        counted
    }

    /// Publishes `message`, and notes the outcome for its queue.
    async fn publish_one(&self, message: &Ready<'_>, give_up_at: Instant) -> Result<(), Unpublished> {
        let answers = self.routes.of(&self.topology, &message.route);
        let publishing = timeout_at(give_up_at, self.confirmed(message, &answers)).await;
        let published = publishing.unwrap_or_else(|_| {
            let failure = format!("the queue {} did not confirm in time", answers.queue);
            Err(Unpublished::new(Trouble::Hangs, Failure::unknown(failure)))
        });
        match &published {
            Ok(()) => answers.confirmed(Instant::now()),
            Err(Unpublished { trouble, .. }) => {
                answers.has(*trouble, Instant::now());
                count_failure(answers.kind, *trouble);
            }
        }
        published
    }

    async fn confirmed(&self, message: &Ready<'_>, answers: &Arc<Answers>) -> Result<(), Unpublished> {
        let hanging = |failure| Unpublished::new(Trouble::Hangs, failure);
        let connection = self.connection().await?;
        answers.refuse_while_hanging(Instant::now()).map_err(hanging)?;
        let closed = |_| Unpublished::new(Trouble::Lost, Failure::transient("the publisher is closed"));
        let place = Arc::clone(&answers.places).acquire_owned().await.map_err(closed)?;
        let mut in_window = Some(self.window.acquire().await.map_err(closed)?);
        answers.refuse_or_try(Instant::now()).map_err(hanging)?;
        // Kept until the confirm, so that a channel that was replaced stays open for it.
        let channel = answers
            .channel
            .open(&connection)
            .await
            .map_err(|error| Unpublished::new(Trouble::Lost, failure::of_setup("cannot open a channel", &error)))?;
        let mut sending = answers.channel.hand_over(&channel, &message.route, &message.properties, message.payload);
        (&mut sending).await;
        let confirm = match Pin::new(&mut sending).take_output() {
            Some(Ok(confirm)) => confirm,
            Some(Err(error)) => return Err(self.lost(&error)),
            None => return Err(Unpublished::new(Trouble::Lost, Failure::unknown("the message was not written"))),
        };
        let mut owed = Owed::new(confirm, Arc::clone(answers), place, channel.clone());
        let confirmation = match timeout(SLOW, &mut owed).await {
            Ok(confirmation) => confirmation,
            Err(_) => {
                // Other messages need not wait for a slow one.
                in_window = None;
                owed.await
            }
        };
        drop(in_window);
        match confirmation {
            Ok(Confirmation::Ack(None)) => Ok(()),
            // Taken, and dropped at once, because no queue is bound: RabbitMQ acknowledges that too.
            Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => {
                self.link.redeclare();
                let to = format!("{} {}", returned.exchange, returned.routing_key);
                let failure = Failure::transient(format!("the broker has no queue for {to}"));
                Err(Unpublished::new(Trouble::NoQueue, failure.with_code(returned.reply_code.to_string())))
            }
            Ok(Confirmation::Nack(None)) => Err(self.refused(&connection, answers).await),
            Ok(Confirmation::NotRequested) => {
                Err(Unpublished::new(Trouble::Lost, Failure::unknown("the channel does not confirm")))
            }
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// Why a queue refused a message, as far as RabbitMQ tells: it counts no messages and no consumers in a queue
    /// without a leader.
    async fn refused(&self, connection: &Connection, answers: &Answers) -> Unpublished {
        let trouble = match answers.known() {
            Some(trouble) => trouble,
            None => {
                let counting = async {
                    let channel = step("cannot open a channel", connection.create_channel()).await?;
                    depths::count(&channel, &answers.queue).await
                };
                let trouble = match counting.await {
                    Ok((0, 0)) | Err(_) => Trouble::NoLeader,
                    Ok(_) => Trouble::Full,
                };
                answers.knows(trouble);
                trouble
            }
        };
        let what = trouble.of_queue().unwrap_or_default();
        Unpublished::new(trouble, Failure::transient(format!("the queue {} {what}", answers.queue)))
    }

    fn lost(&self, error: &lapin::Error) -> Unpublished {
        if failure::is_not_found(error) {
            self.link.redeclare();
            return Unpublished::new(Trouble::NoQueue, failure::of_publish(error));
        }
        Unpublished::new(Trouble::Lost, failure::of_publish(error))
    }

    async fn connection(&self) -> Result<Arc<Connection>, Unpublished> {
        let connection = timeout(CONNECTION_PATIENCE, self.link.up()).await.ok().flatten();
        let connection = connection.ok_or_else(|| Unpublished::new(Trouble::Away, self.link.why_down()))?;
        if connection.status().blocked() {
            let failure = Failure::transient("the broker takes no messages: it is short of memory or disk");
            return Err(Unpublished::new(Trouble::Blocked, failure));
        }
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn g4_each_message_of_a_conversation_waits_for_the_one_before_and_for_no_other(keys in prop::collection::vec(0_u8..4, 0..40)) {
            let ready = |(payload, key): (&'static [u8], &u8)| Ready {
                key: (*key > 0).then(|| ConversationKey::from_hex(&format!("{key:032x}")).unwrap()),
                route: Route { exchange: "e".to_owned(), key: "0".to_owned() },
                properties: BasicProperties::default(),
                payload,
            };
            let number = |index: usize| -> &'static [u8] { &[0; 40][..index] };
            let chains = chains(keys.iter().enumerate().map(|(index, key)| ready((number(index), key))).collect());
            prop_assert_eq!(chains.iter().map(Vec::len).sum::<usize>(), keys.len());
            let mut keys = std::collections::HashSet::new();
            for chain in &chains {
                prop_assert!(chain.iter().all(|message| message.key == chain[0].key));
                prop_assert!(chain.is_sorted_by_key(|message| message.payload.len()));
                match chain[0].key {
                    Some(key) => prop_assert!(keys.insert(key)),
                    None => prop_assert_eq!(chain.len(), 1),
                }
            }
        }
    }
}
