//! Providers carry SMS. Each provider has a folder of the same structure.
//!
//! `webhook.rs` (their requests to us), `send.rs` (ours to them), `failure.rs` (what their refusals mean). Two narrow
//! ports keep the services apart: ingress knows only [`Webhook`], the sender only [`Carrier`].

#[cfg(feature = "send")]
mod answer;
#[cfg(feature = "http-client")]
pub mod http_client;
pub mod intelepeer;
mod settings;
pub mod twilio;

use std::fmt;
use std::time::Duration;

use ::http::{HeaderMap, Method, StatusCode};
use async_trait::async_trait;
use message::failure::Failure;
use message::{Conversation, Inbound, Media, MessageId, MessageText, Receipt};
use sha2::{Digest as _, Sha256};

pub use settings::{ProviderSettings, UnknownOutcome};

/// A webhook request as it arrived, not yet verified.
#[derive(Clone, Copy)]
pub struct WebhookRequest<'a> {
    /// The method, `GET` or `POST`.
    pub method: &'a Method,
    /// The raw request target: path and query, byte for byte, without the path of the public URL.
    pub target: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The raw body.
    pub body: &'a [u8],
}

impl fmt::Debug for WebhookRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Target and body hold numbers and words.
        write!(f, "WebhookRequest({}, {} bytes)", self.method, self.body.len())
    }
}

/// Why a webhook request is not accepted. The texts name no secret, number or words of the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The proof that it comes from the provider is missing or wrong.
    #[error("{0}")]
    Unproven(&'static str),
    /// It is proven but cannot be understood.
    #[error("{0}")]
    Unreadable(String),
}

/// Checks and reads a provider's webhook requests. Pure: no I/O, no clock.
pub trait Webhook: Send + Sync + fmt::Debug {
    /// Checks as much of the proof as the headers alone hold, so that the body is not read in vain.
    ///
    /// # Errors
    /// [`Refusal::Unproven`].
    fn check_head(&self, _headers: &HeaderMap) -> Result<(), Refusal> {
        Ok(())
    }

    /// Checks the proof over the raw request, in constant time.
    ///
    /// # Errors
    /// [`Refusal::Unproven`].
    fn verify(&self, request: &WebhookRequest<'_>) -> Result<(), Refusal>;

    /// Reads a text. To be called only on verified requests.
    ///
    /// # Errors
    /// [`Refusal::Unreadable`], or [`Refusal::Unproven`] when it names another account.
    fn read_message(&self, request: &WebhookRequest<'_>) -> Result<(Conversation, Inbound), Refusal>;

    /// Reads a delivery receipt; `None` for a report that changes nothing. To be called only on verified requests.
    ///
    /// # Errors
    /// As for a text.
    fn read_receipt(&self, request: &WebhookRequest<'_>) -> Result<Option<(Conversation, Receipt)>, Refusal>;

    /// What is kept of a verified request that cannot be read: its content, without a secret.
    fn transcript(&self, request: &WebhookRequest<'_>) -> String {
        String::from_utf8_lossy(content(request)).into_owned()
    }

    /// The status that tells this provider "taken", sent without a body.
    fn accepted(&self) -> StatusCode;
}

/// The content of a request: the query of a `GET`, else the body.
fn content<'a>(request: &WebhookRequest<'a>) -> &'a [u8] {
    match *request.method {
        Method::GET => request.target.split_once('?').map_or("", |(_, query)| query).as_bytes(),
        _ => request.body,
    }
}

/// The provider's name of a message if it `is_usual`, else the hash of that name: it is shown in logs and lists.
fn message_name(name: &str, is_usual: fn(&str) -> bool) -> String {
    if is_usual(name) { name.to_owned() } else { format!("sha256:{}", hex::encode(Sha256::digest(name.as_bytes()))) }
}

/// One text to send: exactly one provider call.
#[derive(Debug, Clone, Copy)]
pub struct Sms<'a> {
    /// The part it carries.
    pub part: MessageId,
    /// From our number to the customer's.
    pub conversation: &'a Conversation,
    /// The words.
    pub text: &'a MessageText,
    /// Public URLs of media.
    pub media: &'a [Media],
    /// How long ago the first attempt at this part began, at most.
    pub first_attempt_ago: Duration,
}

/// What the provider tells of a part whose outcome we do not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trace {
    /// The provider's texts that may be the part, the oldest first; all others certainly are not.
    Listed(Vec<Candidate>),
    /// This provider cannot be asked.
    Unsupported,
}

/// A text that the provider has, and that may be the one we ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The provider's name for it.
    pub name: String,
    /// Whether everything that identifies a text is the same; otherwise some of that was hidden or changed.
    pub is_same: bool,
    /// How long ago the provider accepted it, by the provider's clock; `None` when that cannot be told.
    pub age: Option<Duration>,
}

/// The provider's REST API.
#[async_trait]
pub trait Carrier: Send + Sync + fmt::Debug {
    /// Sends one text and returns the provider's name for it.
    ///
    /// # Errors
    /// Classified once, here: see [`message::failure::FailureKind`].
    async fn send(&self, sms: &Sms<'_>) -> Result<String, Failure>;

    /// Asks the provider whether it accepted a text whose outcome is unknown. May take several calls: give it a
    /// deadline.
    ///
    /// # Errors
    /// When it cannot be asked now.
    async fn find(&self, sms: &Sms<'_>) -> Result<Trace, Failure>;

    /// Whether the provider sends receipts that name the part for texts that are sent now.
    fn has_receipts(&self) -> bool;

    /// Whether texts that [`Carrier::find`] lists may belong to another conversation of the customer.
    fn lists_other_conversations(&self) -> bool;
}

/// The class of a failed text whose customer opted out.
pub const OPTED_OUT: &str = "opted_out";

/// What the code of a receipt from the provider named `provider` means, in one of a few words that may become a label:
/// the name of a [`message::failure::FailureKind`], [`OPTED_OUT`], `none` without a code, and `other` for one that is
/// not known.
#[must_use]
pub fn receipt_class(provider: &str, code: Option<&str>) -> &'static str {
    let Some(code) = code else { return "none" };
    let class = if provider == "twilio" { twilio::failure::class(code) } else { None };
    class.unwrap_or("other")
}

/// Returns the webhook reader of an account. `public_urls` are the URLs that the provider may call and sign.
#[must_use]
pub fn webhook(settings: &ProviderSettings, public_urls: &[String]) -> Box<dyn Webhook> {
    match settings {
        ProviderSettings::Twilio(settings) => Box::new(twilio::TwilioWebhook::new(settings, public_urls)),
        ProviderSettings::Intelepeer(settings) => Box::new(intelepeer::IntelepeerWebhook::new(settings)),
    }
}

/// Returns the carrier of an account. Each of its calls ends after `timeout`. Receipts go to `status_url`; there are
/// none without a `status_url`, or when the provider pushes none.
///
/// # Errors
/// When the settings name no credentials, or TLS cannot be set up.
#[cfg(feature = "send")]
pub fn carrier(
    settings: &ProviderSettings,
    status_url: Option<String>,
    timeout: Duration,
) -> Result<Box<dyn Carrier>, Failure> {
    Ok(match settings {
        ProviderSettings::Twilio(settings) => Box::new(twilio::TwilioCarrier::new(settings, status_url, timeout)?),
        ProviderSettings::Intelepeer(settings) => Box::new(intelepeer::IntelepeerCarrier::new(settings, timeout)?),
    })
}
