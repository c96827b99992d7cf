//! A text that a customer sends, and what the webhook answered to it.

use serde::{Deserialize, Serialize};

/// A text from a customer to one of our numbers.
#[derive(Clone, Debug, Deserialize)]
pub struct Text {
    /// The customer's number.
    pub from: String,
    /// Our number.
    pub to: String,
    /// What is written; may be empty with media.
    pub body: String,
    /// Pictures and the like.
    #[serde(default)]
    pub media: Vec<Media>,
    /// The provider's id; a fresh one if not given. The same id again makes a duplicate.
    #[serde(default)]
    pub id: Option<String>,
}

impl Text {
    /// A text without media and with a fresh id.
    #[must_use]
    pub fn new(from: impl Into<String>, to: impl Into<String>, body: impl Into<String>) -> Self {
        Self { from: from.into(), to: to.into(), body: body.into(), media: Vec::new(), id: None }
    }

    /// The same text with this provider's id.
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
    /// Where it can be fetched.
    pub url: String,
    /// Its MIME type.
    pub content_type: String,
}

/// How a webhook answered.
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
    /// How often the webhook was called.
    pub attempts: u32,
}

/// Why a text did not reach a webhook.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhoneError {
    /// No account has the number.
    #[error("nobody owns the number that was texted")]
    UnknownNumber,
    /// Nothing says where to post its texts.
    #[error("the number has no webhook")]
    NoWebhook,
    /// The webhook is no URL.
    #[error("the number's webhook is not a valid URL")]
    BadWebhook,
    /// No HTTP answer came.
    #[error("the webhook cannot be reached: {0}")]
    Unreachable(String),
}
