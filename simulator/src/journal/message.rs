//! A text as a provider holds it.

use jiff::Timestamp;
use serde::Serialize;

use crate::route::Service;

/// A text that a provider took in, from a customer or from us. Made-up data: unlike in production code, `Debug` shows
/// all of it, so that a failed assertion can be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// The provider's id, `SM…`/`MM…` at Twilio, the refid at IntelePeer.
    pub sid: String,
    /// Whose it is.
    pub service: Service,
    /// From the customer, or to the customer.
    pub direction: Direction,
    /// The sender's number. While a text that a messaging service took is still accepted, the API hides it.
    pub from: String,
    /// The receiver's number.
    pub to: String,
    /// The text; may be empty with media.
    pub body: String,
    /// URLs of pictures and the like.
    pub media: Vec<String>,
    /// Where Twilio was asked to report.
    pub status_callback: Option<String>,
    /// The messaging service that it was sent through (Twilio).
    pub messaging_service_sid: Option<String>,
    /// The sender's own identifier (IntelePeer).
    pub guid: Option<String>,
    /// How far it is.
    pub state: MessageState,
    /// The provider's error code, if it failed.
    pub error_code: Option<u32>,
    /// When the provider took it.
    #[serde(rename = "at")]
    pub accepted_at: Timestamp,
    /// When it left the provider.
    pub sent_at: Option<Timestamp>,
}

impl Message {
    /// A text taken in now, without media or extras.
    pub(crate) fn new(service: Service, direction: Direction, sid: String, from: &str, to: &str, body: &str) -> Self {
        let state = match direction {
            Direction::Inbound => MessageState::Received,
            Direction::Outbound => MessageState::Queued,
        };
        let now = crate::clock::now();
        Self {
            sid,
            service,
            direction,
            from: from.to_owned(),
            to: to.to_owned(),
            body: body.to_owned(),
            media: Vec::new(),
            status_callback: None,
            messaging_service_sid: None,
            guid: None,
            state,
            error_code: None,
            accepted_at: now,
            sent_at: (direction == Direction::Inbound).then_some(now),
        }
    }

    /// The number of the customer's end.
    #[must_use]
    pub fn customer(&self) -> &str {
        match self.direction {
            Direction::Inbound => &self.from,
            Direction::Outbound => &self.to,
        }
    }
}

/// Which way a text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From a customer's phone.
    Inbound,
    /// To a customer's phone.
    Outbound,
}

/// How far a text is; later states compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// From a customer; nothing more happens to it.
    Received,
    /// Taken by the provider through a messaging service.
    Accepted,
    /// Taken by the provider.
    Queued,
    /// Taken by the carrier.
    Sent,
    /// On the phone.
    Delivered,
    /// Given up by the carrier.
    Undelivered,
    /// Given up by the provider.
    Failed,
}

impl MessageState {
    /// Twilio's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Accepted => "accepted",
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Undelivered => "undelivered",
            Self::Failed => "failed",
        }
    }
}
