//! Intelepeer.

use ::http::StatusCode;

use super::{Refusal, Webhook, WebhookRequest};
use crate::integration::IntelepeerSettings;
use crate::message::{Conversation, Inbound, Receipt};

/// placeholder
#[derive(Debug)]
pub struct IntelepeerWebhook;

impl IntelepeerWebhook {
    /// placeholder
    #[must_use]
    pub fn new(_settings: &IntelepeerSettings) -> Self {
        Self
    }
}

impl Webhook for IntelepeerWebhook {
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
