//! A text that a customer sends, and the webhook's answer to it.

use serde::{Deserialize, Serialize};

/// A text from a customer to one of our numbers.
#[derive(Clone, Debug, Deserialize)]
pub struct Text {
    /// The customer's number.
    pub from: String,
    /// Our number.
    pub to: String,
    /// The words of the text; may be empty with media.
    pub body: String,
    /// Pictures and other attachments.
    #[serde(default)]
    pub media: Vec<Media>,
    /// The provider's id; a fresh one by default. An id that was used before makes the text a duplicate.
    #[serde(default)]
    pub id: Option<String>,
}

impl Text {
    /// A text without media and with a fresh id.
    #[must_use]
    pub fn new(from: impl Into<String>, to: impl Into<String>, body: impl Into<String>) -> Self {
        Self { from: from.into(), to: to.into(), body: body.into(), media: Vec::new(), id: None }
    }

    /// The same text with this id at the provider.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The same text with one more attachment.
    #[must_use]
    pub fn with_media(mut self, url: impl Into<String>, content_type: impl Into<String>) -> Self {
        self.media.push(Media { url: url.into(), content_type: content_type.into() });
        self
    }
}

/// An attachment.
#[derive(Clone, Debug, Deserialize)]
pub struct Media {
    /// The URL of the attachment.
    pub url: String,
    /// Its MIME type.
    pub content_type: String,
}

/// The answer of a webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WebhookAnswer {
    /// The text's id at the provider.
    pub sid: String,
    /// The HTTP status of the last attempt.
    pub status: u16,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// The body, at most about 64 KiB of it.
    pub body: String,
    /// The number of calls of the webhook.
    pub attempts: u32,
}

/// The reason why a text did not reach a webhook.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhoneError {
    /// No account has the number.
    #[error("nobody owns the number that was texted")]
    UnknownNumber,
    /// The number has no webhook.
    #[error("the number has no webhook")]
    NoWebhook,
    /// The webhook is not a valid URL.
    #[error("the number's webhook is not a valid URL")]
    BadWebhook,
    /// There was no HTTP answer.
    #[error("the webhook cannot be reached: {0}")]
    Unreachable(String),
}
