//! The customers' phones: texting from code, the phone page, and the control API.

mod control;
mod live;
mod page;
mod text;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::sync::broadcast;

pub use text::{Media, PhoneError, Text, WebhookAnswer};

use crate::journal::{Direction, Event, Message};
use crate::route::Service;
use crate::world::{World, fresh_hex};
use crate::{intelepeer, twilio};

/// The phone page and the control API.
pub(crate) fn routes() -> Router<Arc<World>> {
    Router::new()
        .route("/", get(page::page))
        .route("/_simulator/picture.svg", get(page::picture))
        .route("/_simulator/events", get(live::events))
        .route("/_simulator/state", get(control::state))
        .route("/_simulator/texts", post(control::text))
        .route("/_simulator/messages", get(control::messages))
        .route("/_simulator/requests", get(control::requests))
        .route("/_simulator/callbacks", get(control::callbacks))
        .route("/_simulator/webhooks", post(control::set_webhook))
        .route("/_simulator/faults", get(control::faults).post(control::add_fault).delete(control::clear_faults))
        .route("/_simulator/receipts", post(control::set_receipts))
        .route("/_simulator/twilio", post(control::set_twilio_quirks))
        .route("/_simulator/expire", post(control::expire))
        .route("/_simulator/anonymous", post(control::allow_anonymous))
        .route("/_simulator/reset", post(control::reset))
}

/// All customers' phones; cheap to clone.
#[derive(Clone, Debug)]
pub struct Phone {
    world: Arc<World>,
}

/// The reply did not come in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no reply within {within:?}, {seen} so far")]
pub struct NoReply {
    /// The time of the wait.
    pub within: Duration,
    /// The number of replies that the customer has.
    pub seen: usize,
}

impl Phone {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { world }
    }

    /// Texts `body` from the customer `from` to our number `to`, and returns how the webhook answered.
    ///
    /// # Errors
    /// See [`Phone::send`].
    pub async fn text(&self, from: &str, to: &str, body: &str) -> Result<WebhookAnswer, PhoneError> {
        self.send(Text::new(from, to, body)).await
    }

    /// Sends a text as the number's provider does: Twilio calls the webhook once, IntelePeer up to five times until it
    /// answers 200. A text with the id of an earlier one is a duplicate: it is posted again, but shown only once.
    ///
    /// # Errors
    /// When no account has the number, it has no usable webhook, or the webhook gives no HTTP answer.
    pub async fn send(&self, text: Text) -> Result<WebhookAnswer, PhoneError> {
        let number = self.world.number(&text.to).ok_or(PhoneError::UnknownNumber)?;
        let sid = text.id.clone().unwrap_or_else(|| fresh_sid(number.service, &text));
        let mut message =
            Message::new(number.service, Direction::Inbound, sid.clone(), &text.from, &text.to, &text.body);
        message.media = text.media.iter().map(|media| media.url.clone()).collect();
        self.world.journal.add_message(message);
        let answer = match number.service {
            Service::Twilio => twilio::deliver(&self.world, &number.line, &sid, &text).await,
            Service::Intelepeer => intelepeer::deliver(&self.world, &number.line, &sid, &text).await,
            Service::Watsonx => Err(PhoneError::UnknownNumber),
        };
        let status = answer.as_ref().ok().map(|answer| answer.status);
        self.world.journal.tell(Event::Webhook { sid, status });
        answer
    }

    /// The texts that were accepted for a customer, oldest first.
    #[must_use]
    pub fn replies(&self, customer: &str) -> Vec<Message> {
        self.world.journal.replies(customer, 0)
    }

    /// Both sides of a customer's conversation with one of our numbers, oldest first.
    #[must_use]
    pub fn conversation(&self, customer: &str, number: &str) -> Vec<Message> {
        self.world.journal.messages(|m| m.customer() == customer && (m.from == number || m.to == number))
    }

    /// Waits for the reply after the first `seen` ones (0: the first).
    ///
    /// # Errors
    /// When it does not come within the deadline.
    pub async fn wait_for_reply(&self, customer: &str, seen: usize, within: Duration) -> Result<Message, NoReply> {
        let reply = self.world.journal.wait_for(|| self.world.journal.replies(customer, seen).into_iter().next());
        let no_reply = || NoReply { within, seen: self.replies(customer).len() };
        tokio::time::timeout(within, reply).await.ok().flatten().ok_or_else(no_reply)
    }

    /// Waits until a customer has at least `count` replies and returns all of them.
    ///
    /// # Errors
    /// When they do not come within the deadline.
    pub async fn wait_for_replies(
        &self,
        customer: &str,
        count: usize,
        within: Duration,
    ) -> Result<Vec<Message>, NoReply> {
        let replies = self.world.journal.wait_for(|| {
            let replies = self.replies(customer);
            (replies.len() >= count).then_some(replies)
        });
        let no_reply = || NoReply { within, seen: self.replies(customer).len() };
        tokio::time::timeout(within, replies).await.ok().flatten().ok_or_else(no_reply)
    }

    /// All events from now on. A listener that falls far behind misses events (`Lagged`).
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.world.journal.events()
    }
}

/// An id in the form of the service's own ids.
fn fresh_sid(service: Service, text: &Text) -> String {
    match service {
        Service::Twilio if !text.media.is_empty() => format!("MM{}", fresh_hex()),
        Service::Twilio | Service::Watsonx => format!("SM{}", fresh_hex()),
        Service::Intelepeer => intelepeer::fresh_refid(),
    }
}
