//! An integration's route to its provider: the carrier, with metrics and logs.

use std::sync::Arc;

use integration::Integration;
use message::Envelope;
use message::failure::Failure;
use providers::{Carrier, Sms};
use tokio::time::Instant;
use work::Outcome;

use crate::plan::Next;

/// An integration and its provider's carrier.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) integration: Arc<Integration>,
    pub(crate) carrier: Box<dyn Carrier>,
}

impl Route {
    /// Sends through the provider, and records the call in the metrics.
    pub(crate) async fn send(&self, sms: &Sms<'_>) -> Result<String, Failure> {
        let provider = self.integration.provider.name();
        let started = Instant::now();
        let sent = self.carrier.send(sms).await;
        let outcome = sent.as_ref().map_or_else(|failure| failure.kind.as_str(), |_| Outcome::Accepted.as_str());
        metrics::histogram!("switchboard_send_seconds", "provider" => provider).record(started.elapsed());
        metrics::counter!("switchboard_sends_total", "provider" => provider, "outcome" => outcome).increment(1);
        sent
    }

    /// Logs what follows a failed call, and counts what is tried again.
    pub(crate) fn report(&self, envelope: &Envelope, failure: &Failure, next: &Next) {
        let (provider, kind) = (self.integration.provider.name(), failure.kind.as_str());
        let (message, integration) = (envelope.id, &envelope.integration);
        match next {
            Next::OptedOut => {
                tracing::info!(message.id = %message, integration.id = %integration, %failure, "a part ends: the customer opted out");
            }
            Next::SetAside(reason) => {
                tracing::error!(message.id = %message, integration.id = %integration, %failure, reason = reason.name.as_str(), "a part cannot be sent");
            }
            Next::Wait(delay) | Next::Park(delay) => {
                metrics::counter!("switchboard_send_retries_total", "provider" => provider, "kind" => kind)
                    .increment(1);
                tracing::warn!(message.id = %message, integration.id = %integration, %failure, ?delay, "a part is not sent yet");
            }
        }
    }
}
