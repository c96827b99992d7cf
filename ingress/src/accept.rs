//! One webhook request, from its proof until its message is durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::{StatusCode, header};
use common::broker::{Destination, Outgoing, Stage};
use common::clock::Clock;
use common::failpoint::{Step, reach};
use common::integration::{Integration, Integrations};
use common::message::{Body, Conversation, Envelope, IntegrationId, MessageId, Receipt, SCHEMA, Unread};
use common::providers::{Refusal, Webhook, WebhookRequest, webhook};
use common::secret::Keyring;
use common::telemetry::new_traceparent;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::durable::Durable;
use crate::problem::Problem;

/// What a request reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Message,
    Status,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Status => "status",
        }
    }
}

/// The front doors of all integrations.
#[derive(Debug)]
pub(crate) struct FrontDoor {
    doors: BTreeMap<IntegrationId, Door>,
    durable: Durable,
    clock: Clock,
}

#[derive(Debug)]
struct Door {
    integration: Arc<Integration>,
    webhook: Box<dyn Webhook>,
    keyring: Keyring,
}

impl FrontDoor {
    pub(crate) fn new(integrations: &Integrations, public_url: &str, durable: Durable, clock: Clock) -> Self {
        let door = |integration: &Arc<Integration>| {
            let keyring = Keyring::new(integration.provider.webhook_secrets().iter().cloned());
            let webhook = webhook(integration, public_url);
            (integration.id.clone(), Door { integration: Arc::clone(integration), webhook, keyring })
        };
        Self { doors: integrations.iter().map(door).collect(), durable, clock }
    }

    /// Accepts one request for the integration named `id`: on success the message is durable.
    pub(crate) async fn accept(
        &self,
        id: &str,
        kind: Kind,
        request: &WebhookRequest<'_>,
    ) -> Result<StatusCode, Problem> {
        let accepted = self.accept_uncounted(id, kind, request).await;
        // The path's id is the caller's word: only the name of an integration we know may become a label.
        let integration = IntegrationId::parse(id).ok().filter(|id| self.doors.contains_key(id));
        let integration = integration.map_or_else(|| "unknown".to_owned(), String::from);
        let outcome = accepted.as_ref().map_or_else(Problem::name, |_| "accepted");
        metrics::counter!("switchboard_webhooks_total", "integration" => integration.clone(), "kind" => kind.as_str(), "outcome" => outcome)
            .increment(1);
        if let Err(problem) = &accepted {
            warn!(integration.id = integration, kind = kind.as_str(), problem = problem.name(), detail = %problem, "webhook refused");
        }
        accepted
    }

    async fn accept_uncounted(
        &self,
        id: &str,
        kind: Kind,
        request: &WebhookRequest<'_>,
    ) -> Result<StatusCode, Problem> {
        let id = IntegrationId::parse(id).map_err(|_| Problem::UnknownIntegration)?;
        let door = self.doors.get(&id).ok_or(Problem::UnknownIntegration)?;
        door.verify(request).await?;
        let read = match kind {
            Kind::Message => Some(door.read_message(request)?),
            Kind::Status => door.read_receipt(request)?,
        };
        if let Some((stage, id, conversation, body)) = read {
            let envelope = Envelope {
                schema: SCHEMA,
                id,
                integration: door.integration.id.clone(),
                conversation,
                accepted_at: self.clock.now(),
                attempts: Vec::new(),
                replays: Vec::new(),
                // Of our own: a caller that could name it could mix its requests with those of others.
                trace: new_traceparent(),
                body,
            };
            self.keep(stage, &envelope).await?;
            reach(Step::Accepted);
        }
        Ok(door.webhook.accepted())
    }

    async fn keep(&self, stage: Stage, envelope: &Envelope) -> Result<(), Problem> {
        let kept = self.durable.keep(Outgoing::new(Destination::Work(stage), envelope)).await;
        kept.map_err(|failure| {
            warn!(integration.id = %envelope.integration, %failure, "cannot make a webhook's message durable");
            Problem::NotDurable
        })?;
        debug!(message.id = %envelope.id, integration.id = %envelope.integration, trace = envelope.trace, "webhook accepted");
        Ok(())
    }
}

/// What to publish, and where.
type Read = (Stage, MessageId, Conversation, Body);

impl Door {
    /// Checks the proof, and checks it once more where a secret on disk may have changed.
    async fn verify(&self, request: &WebhookRequest<'_>) -> Result<(), Refusal> {
        let began = Instant::now();
        match self.webhook.verify(request) {
            Err(Refusal::Unproven(_)) if self.keyring.has_changed(began).await => self.webhook.verify(request),
            verified => verified,
        }
    }

    /// The text; one that cannot be read is kept as it came, and becomes a dead letter.
    fn read_message(&self, request: &WebhookRequest<'_>) -> Result<Read, Problem> {
        let (conversation, inbound) = match self.webhook.read_message(request) {
            Err(Refusal::Unreadable(why)) => return Ok(self.unread(request, why)),
            read => read?,
        };
        if !self.integration.has_number(&conversation.ours) {
            return Err(Problem::ForeignNumber(conversation.ours));
        }
        let id = MessageId::of_provider(&self.integration.id, &inbound.provider_message_id);
        Ok((Stage::Inbound, id, conversation, Body::Inbound(inbound)))
    }

    fn unread(&self, request: &WebhookRequest<'_>, why: String) -> Read {
        self.count_unreadable(Kind::Message);
        let content = self.webhook.transcript(request);
        // A repeated request has the same id: whoever looks sees that it is the same.
        let id = MessageId::of_provider(&self.integration.id, &format!("unread/{content}"));
        let content_type = request.headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
        let unread = Unread {
            why,
            method: request.method.to_string(),
            content_type: content_type.map(|value| String::from_utf8_lossy(value).chars().take(100).collect()),
            content: content.into(),
        };
        (Stage::Inbound, id, Conversation::default(), Body::Unread(unread))
    }

    /// The receipt, if there is one in `request`. One that cannot be read tells nothing that would be worth keeping, and
    /// is not worth asking for again.
    fn read_receipt(&self, request: &WebhookRequest<'_>) -> Result<Option<Read>, Problem> {
        let read = match self.webhook.read_receipt(request) {
            Err(Refusal::Unreadable(why)) => {
                self.count_unreadable(Kind::Status);
                warn!(integration.id = %self.integration.id, why, "a delivery receipt cannot be read and is dropped");
                return Ok(None);
            }
            read => read?,
        };
        let Some((conversation, receipt)) = read else { return Ok(None) };
        let id = receipt_id(&self.integration.id, &receipt);
        Ok(Some((Stage::Receipts, id, conversation, Body::Receipt(receipt))))
    }

    fn count_unreadable(&self, kind: Kind) {
        let integration = self.integration.id.to_string();
        metrics::counter!("switchboard_webhooks_unreadable_total", "integration" => integration, "kind" => kind.as_str())
            .increment(1);
    }
}

fn receipt_id(integration: &IntegrationId, receipt: &Receipt) -> MessageId {
    MessageId::of_provider(integration, &receipt.provider_message_id).derive(&format!("receipt/{:?}", receipt.state))
}
