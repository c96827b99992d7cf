//! The publishing channel of one queue. Each queue has its own, because a queue whose leader hangs holds up its channel
//! and everything behind it: RabbitMQ handles a channel's first message to a queue in the channel itself. While all
//! queues shared one channel, conversations of other queues waited for 83 s (3.10.8) and 31 s (4.3.6).

use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, MaybeDone, maybe_done};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection, PublisherConfirm};

use super::routes::lock;
use super::wire::Route;

/// A message on its way to the socket.
pub(super) type Sending<'a> = MaybeDone<BoxFuture<'a, lapin::Result<PublisherConfirm>>>;

/// A channel with publisher confirms, opened for its first message and again whenever it was lost.
#[derive(Debug, Default)]
pub(super) struct ConfirmingChannel {
    current: Mutex<Option<Channel>>,
    /// Held while the channel is being opened, so that callers that find none share the new one.
    opening: tokio::sync::Mutex<()>,
    /// Held while a message is handed to lapin: lapin counts a message and queues it in two steps, so that two
    /// concurrent publishes could each get the other's confirm.
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

    /// Hands a message to lapin without waiting, so that messages published at the same time leave in one write. lapin
    /// queues a message when the future that publishes it is polled for the first time.
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
        // Most likely not written yet: the caller waits for that and for the confirm.
        let _written = (&mut sending).now_or_never();
        sending
    }

    /// Stops using `channel`: the next message opens another one.
    pub(super) fn leave(&self, channel: &Channel) {
        drop(lock(&self.current).take_if(|current| current.id() == channel.id()));
    }
}
