//! Publishes with confirms: persistent, mandatory, each conversation in order, a bounded number in flight, every call with a deadline.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, MaybeDone, maybe_done};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, PublisherConfirm};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::link::Link;
use super::message::{Route, properties, route};
use super::{depths, failure};
use crate::broker::{Depths, Outgoing, Topology};
use crate::clock::Clock;
use crate::failure::Failure;
use crate::message::ConversationKey;

/// How long a call may take: confirms stay away for as long as an outage or a memory alarm lasts.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a call waits for a connection that is away.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(1);
/// How many messages may be unconfirmed at a time: more gains little and waits longer.
const WINDOW: u32 = 100;

/// `messages` in waves of which each must be confirmed before the next one goes: a queue that is full refuses messages one
/// by one, and may refuse a conversation's first and take its second. Published again, the first would come after it.
fn waves(messages: Vec<Ready<'_>>) -> Vec<Vec<Ready<'_>>> {
    let mut earlier: HashMap<(ConversationKey, String), usize> = HashMap::new();
    let mut waves: Vec<Vec<_>> = Vec::new();
    for message in messages {
        let wave = message.key.map_or(0, |key| {
            let sent = earlier.entry((key, message.route.exchange.clone())).or_default();
            std::mem::replace(sent, *sent + 1)
        });
        if wave == waves.len() {
            waves.push(Vec::new());
        }
        if let Some(wave) = waves.get_mut(wave) {
            wave.push(message);
        }
    }
    waves
}

/// Publishes on one channel, which is opened again whenever it was lost.
#[derive(Debug)]
pub(super) struct Publisher {
    link: Link,
    topology: Topology,
    clock: Clock,
    window: Semaphore,
    /// Held while messages are handed to lapin: it counts a message and queues it in two steps, so that two senders at
    /// once could each be given the other's confirm.
    turn: Mutex<()>,
    channel: Mutex<Option<Channel>>,
    /// Held while a channel is opened, so that all who found none share the one.
    opening: tokio::sync::Mutex<()>,
}

/// A message on its way to the socket.
type Sending<'a> = MaybeDone<BoxFuture<'a, lapin::Result<PublisherConfirm>>>;

/// A message ready to go.
struct Ready<'a> {
    /// The conversation whose order it belongs to.
    key: Option<ConversationKey>,
    route: Route,
    properties: BasicProperties,
    payload: &'a [u8],
}

impl Publisher {
    pub(super) fn new(link: Link, topology: Topology, clock: Clock) -> Self {
        let window = Semaphore::new(WINDOW as usize);
        let opening = tokio::sync::Mutex::default();
        Self { link, topology, clock, window, turn: Mutex::default(), channel: Mutex::default(), opening }
    }

    /// See [`crate::broker::Broker::publish`].
    pub(super) async fn publish(&self, messages: &[Outgoing]) -> Result<(), Failure> {
        self.in_time(self.publish_all(messages.iter().map(|message| self.ready(message)).collect())).await
    }

    fn ready<'a>(&self, message: &'a Outgoing) -> Ready<'a> {
        Ready {
            key: message.key,
            route: route(&self.topology, message),
            properties: properties(message, self.clock.now()),
            payload: &message.payload,
        }
    }

    /// Waits until there is a connection.
    pub(super) async fn connected(&self, patience: Duration) -> Result<(), Failure> {
        let connection = timeout(patience, self.link.up()).await.ok().flatten();
        connection.map(drop).ok_or_else(|| self.link.why_down())
    }

    /// See [`crate::broker::Broker::check`].
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let route = Route { exchange: String::new(), key: self.topology.probe() };
        let probe = Ready { key: None, route, properties: BasicProperties::default(), payload: b"" };
        self.in_time(self.publish_all(vec![probe])).await
    }

    /// See [`crate::broker::Broker::depths`].
    pub(super) async fn depths(&self) -> Result<Depths, Failure> {
        let connection = self.connection().await?;
        let counted = timeout(DEADLINE, depths::count(&connection, &self.topology)).await;
        let counted = counted.unwrap_or_else(|_| Err(Failure::transient("the broker did not count in time")));
        if counted.is_err() {
            self.link.redeclare();
        }
        counted
    }

    async fn in_time(&self, publishing: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        timeout(DEADLINE, publishing).await.unwrap_or_else(|_| {
            // Its confirms may never come; a fresh channel starts a fresh count.
            self.slot().take();
            Err(Failure::unknown("the broker did not confirm in time"))
        })
    }

    async fn publish_all(&self, messages: Vec<Ready<'_>>) -> Result<(), Failure> {
        let connection = self.connection().await?;
        for wave in waves(messages) {
            self.publish_wave(&connection, &wave).await?;
        }
        Ok(())
    }

    async fn publish_wave(&self, connection: &Connection, wave: &[Ready<'_>]) -> Result<(), Failure> {
        for batch in wave.chunks(WINDOW as usize) {
            let size = u32::try_from(batch.len()).unwrap_or(WINDOW);
            // All permits at once, so that two calls cannot wait for each other's.
            let closed = |_| Failure::transient("the publisher is closed");
            let _permits = self.window.acquire_many(size).await.map_err(closed)?;
            // Until the last confirm, so that a channel whose place was taken over stays open for it.
            let channel = self.channel(connection).await?;
            let mut result = Ok(());
            for mut sending in self.hand_over(&channel, batch) {
                (&mut sending).await;
                let sent = Pin::new(&mut sending).take_output();
                result = result.and(self.confirmed(sent).await);
            }
            result?;
        }
        Ok(())
    }

    async fn connection(&self) -> Result<Arc<Connection>, Failure> {
        let connection = timeout(CONNECTION_PATIENCE, self.link.up()).await.ok().flatten();
        let connection = connection.ok_or_else(|| self.link.why_down())?;
        if connection.status().blocked() {
            return Err(Failure::transient("the broker takes no messages: it is short of memory or disk"));
        }
        Ok(connection)
    }

    /// Hands `batch` to lapin in its order, and waits for nothing: so whatever is published at the same time leaves in one
    /// write. lapin queues a message when the future that publishes it is polled for the first time.
    fn hand_over<'a>(&self, channel: &'a Channel, batch: &'a [Ready<'_>]) -> Vec<Sending<'a>> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let queued = |Ready { key: _, route: Route { exchange, key }, properties, payload }: &'a Ready<'_>| {
            let (exchange, key) = (exchange.as_str().into(), key.as_str().into());
            let publishing = channel.basic_publish(exchange, key, options, payload, properties.clone());
            let mut sending: Sending<'_> = maybe_done(publishing.boxed());
            // Not yet written, most likely: that is waited for with the confirm.
            let _written = (&mut sending).now_or_never();
            sending
        };
        batch.iter().map(queued).collect()
    }

    /// The confirming channel; a new one when the old one or its connection was lost.
    async fn channel(&self, connection: &Connection) -> Result<Channel, Failure> {
        let usable = || self.slot().clone().filter(|channel| channel.status().connected());
        if let Some(channel) = usable() {
            return Ok(channel);
        }
        let _opening = self.opening.lock().await;
        if let Some(channel) = usable() {
            return Ok(channel);
        }
        let unopened = |error| failure::of_setup("cannot open a channel", &error);
        let channel = connection.create_channel().await.map_err(unopened)?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(unopened)?;
        *self.slot() = Some(channel.clone());
        Ok(channel)
    }

    async fn confirmed(&self, sent: Option<lapin::Result<PublisherConfirm>>) -> Result<(), Failure> {
        let confirm = match sent {
            Some(Ok(confirm)) => confirm,
            Some(Err(error)) => return Err(self.failed(&error)),
            None => return Err(Failure::unknown("the message was not written")),
        };
        match confirm.await {
            Ok(Confirmation::Ack(None)) => Ok(()),
            // Taken, and dropped at once: no queue is bound. RabbitMQ acknowledges that too.
            Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => {
                self.link.redeclare();
                let to = format!("{} {}", returned.exchange, returned.routing_key);
                Err(Failure::transient(format!("the broker has no queue for {to}"))
                    .with_code(returned.reply_code.to_string()))
            }
            Ok(Confirmation::Nack(None)) => Err(Failure::transient("the queue is full")),
            Ok(Confirmation::NotRequested) => Err(Failure::unknown("the channel does not confirm")),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &lapin::Error) -> Failure {
        if failure::is_not_found(error) {
            self.link.redeclare();
        }
        failure::of_publish(error)
    }

    fn slot(&self) -> MutexGuard<'_, Option<Channel>> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn g4_each_message_of_a_conversation_waits_for_the_one_before(keys in prop::collection::vec(0_u8..4, 0..40)) {
            let ready = |(payload, key): (&'static [u8], &u8)| Ready {
                key: (*key > 0).then(|| ConversationKey::from_hex(&format!("{key:032x}")).unwrap()),
                route: Route { exchange: "e".to_owned(), key: "0".to_owned() },
                properties: BasicProperties::default(),
                payload,
            };
            let number = |index: usize| -> &'static [u8] { &[0; 40][..index] };
            let waves = waves(keys.iter().enumerate().map(|(index, key)| ready((number(index), key))).collect());
            prop_assert_eq!(waves.iter().map(Vec::len).sum::<usize>(), keys.len());
            let mut last = HashMap::new();
            for wave in &waves {
                let mut in_wave = std::collections::HashSet::new();
                for message in wave {
                    if let Some(key) = message.key {
                        prop_assert!(in_wave.insert(key));
                        prop_assert!(last.insert(key, message.payload.len()) < Some(message.payload.len()));
                    }
                }
            }
        }
    }
}
