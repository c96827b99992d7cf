//! The channel on which the messages for one queue leave. Each queue has its own: RabbitMQ handles the first message of a
//! channel to a queue in place, and where the queue's leader hangs, that holds up the channel, with all that follows on
//! it: conversations of other queues waited for 83 s (3.10.8) and 31 s (4.3.6) while all shared one.

use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, MaybeDone, maybe_done};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection, PublisherConfirm};

use super::routes::lock;
use super::wire::Route;

/// A message on its way to the socket.
pub(super) type Sending<'a> = MaybeDone<BoxFuture<'a, lapin::Result<PublisherConfirm>>>;

/// A channel that confirms, opened for its first message and again whenever it was lost.
#[derive(Debug, Default)]
pub(super) struct ConfirmingChannel {
    current: Mutex<Option<Channel>>,
    /// Held while it is opened, so that all who found none share the one.
    opening: tokio::sync::Mutex<()>,
    /// Held while messages are handed to lapin: it counts a message and queues it in two steps, so that two senders at
    /// once could each be given the other's confirm.
    turn: Mutex<()>,
}

impl ConfirmingChannel {
    /// The channel; a new one on `connection` when the old one was lost.
    pub(super) async fn open(&self, connection: &Connection) -> lapin::Result<Channel> {
        let usable = || lock(&self.current).clone().filter(|channel| channel.status().connected());
        if let Some(channel) = usable() {
            return Ok(channel);
        }
        let _opening = self.opening.lock().await;
        if let Some(channel) = usable() {
            return Ok(channel);
        }
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        *lock(&self.current) = Some(channel.clone());
        Ok(channel)
    }

    /// Hands a message to lapin, and waits for nothing: so whatever is published at the same time leaves in one write.
    /// lapin queues a message when the future that publishes it is polled for the first time.
    pub(super) fn hand_over<'a>(
        &self,
        channel: &'a Channel,
        route: &'a Route,
        properties: &BasicProperties,
        payload: &'a [u8],
    ) -> Sending<'a> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let (exchange, key) = (route.exchange.as_str().into(), route.key.as_str().into());
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let publishing = channel.basic_publish(exchange, key, options, payload, properties.clone());
        let mut sending: Sending<'_> = maybe_done(publishing.boxed());
        // Not yet written, most likely: that is waited for with the confirm.
        let _written = (&mut sending).now_or_never();
        sending
    }

    /// What comes next goes on another channel than `channel`.
    pub(super) fn leave(&self, channel: &Channel) {
        drop(lock(&self.current).take_if(|current| current.id() == channel.id()));
    }
}
