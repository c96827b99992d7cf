//! Twilio.

use ::http::StatusCode;

use super::{Refusal, Webhook, WebhookRequest};
use crate::integration::TwilioSettings;
use crate::message::{Conversation, Inbound, Receipt};

/// placeholder
#[derive(Debug)]
pub struct TwilioWebhook;

impl TwilioWebhook {
    /// placeholder
    #[must_use]
    pub fn new(_settings: &TwilioSettings, _public_url: &str) -> Self {
        Self
    }
}

impl Webhook for TwilioWebhook {
    fn verify(&self, _request: &WebhookRequest<'_>) -> Result<(), Refusal> {
        Err(Refusal::Unproven("placeholder"))
    }
    fn read_message(&self, _request: &WebhookRequest<'_>) -> Result<(Conversation, Inbound), Refusal> {
        Err(Refusal::Unproven("placeholder"))
    }
    fn read_receipt(&self, _request: &WebhookRequest<'_>) -> Result<Option<(Conversation, Receipt)>, Refusal> {
        Err(Refusal::Unproven("placeholder"))
    }
    fn accepted(&self) -> StatusCode {
        StatusCode::NO_CONTENT
    }
}
