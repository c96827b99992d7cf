//! An integration's way out: its provider's carrier, with what it does counted.

use std::sync::Arc;

use common::broker::Outcome;
use common::failure::Failure;
use common::integration::Integration;
use common::providers::{Carrier, Sms};
use tokio::time::Instant;

/// An integration's way out.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) integration: Arc<Integration>,
    pub(crate) carrier: Box<dyn Carrier>,
}

impl Route {
    /// Calls the provider, and counts.
    pub(crate) async fn send(&self, sms: &Sms<'_>) -> Result<String, Failure> {
        let provider = self.integration.provider.name();
        let started = Instant::now();
        let sent = self.carrier.send(sms).await;
        let outcome = sent.as_ref().map_or_else(|failure| failure.kind.as_str(), |_| Outcome::Accepted.as_str());
        metrics::histogram!("switchboard_send_seconds", "provider" => provider).record(started.elapsed());
        metrics::counter!("switchboard_sends_total", "provider" => provider, "outcome" => outcome).increment(1);
        sent
    }
}
