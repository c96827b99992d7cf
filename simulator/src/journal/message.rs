//! A text as a provider stores it.

use jiff::Timestamp;
use serde::Serialize;

use crate::route::Service;

/// A text that a provider accepted, from a customer or from us. Unlike in production code, `Debug` shows all of it: the
/// data is made up, and a failed assertion should be readable.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// The provider's id, `SM…`/`MM…` at Twilio, the refid at IntelePeer.
    pub sid: String,
    /// The service that has the text.
    pub service: Service,
    /// Whether the text comes from the customer or goes to the customer.
    pub direction: Direction,
    /// The sender's number. The API hides it while the text is in the state accepted, which only a messaging service
    /// gives.
    pub from: String,
    /// The receiver's number.
    pub to: String,
    /// The text; may be empty with media.
    pub body: String,
    /// URLs of pictures and other attachments.
    pub media: Vec<String>,
    /// The URL for status callbacks, if the sender asked Twilio for them.
    pub status_callback: Option<String>,
    /// The messaging service through which the text was sent (Twilio).
    pub messaging_service_sid: Option<String>,
    /// The sender's own identifier (IntelePeer).
    pub guid: Option<String>,
    /// The state of the text.
    pub state: MessageState,
    /// The provider's error code, if it failed.
    pub error_code: Option<u32>,
    /// The time at which the provider accepted the text.
    #[serde(rename = "at")]
    pub accepted_at: Timestamp,
    /// The time at which the text left the provider.
    pub sent_at: Option<Timestamp>,
}

impl Message {
    /// A text that is accepted now, without media or extras.
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

    /// The customer's number.
    #[must_use]
    pub fn customer(&self) -> &str {
        match self.direction {
            Direction::Inbound => &self.from,
            Direction::Outbound => &self.to,
        }
    }
}

/// The direction of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From a customer's phone.
    Inbound,
    /// To a customer's phone.
    Outbound,
}

/// The state of a text; later states compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// Received from a customer; this state is final.
    Received,
    /// Accepted by the provider through a messaging service.
    Accepted,
    /// Accepted by the provider.
    Queued,
    /// Accepted by the carrier.
    Sent,
    /// On the phone.
    Delivered,
    /// Given up by the carrier.
    Undelivered,
    /// Given up by the provider.
    Failed,
}

impl MessageState {
    /// Twilio's word for the state.
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
