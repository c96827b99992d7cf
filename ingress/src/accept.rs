//! One webhook request, from its proof until its message is durable.

use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use broker::{Destination, Outgoing, Stage};
use integration::{Integration, Integrations};
use message::clock::Clock;
use message::failpoint::{Step, reach};
use message::trace::new_traceparent;
use message::{Body, Conversation, Envelope, IntegrationId, MessageId, Receipt, SCHEMA, Unread};
use providers::{Refusal, Webhook, WebhookRequest, webhook};
use secret::Keyring;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::durable::Durable;
use crate::problem::Problem;
use crate::refusals::Refusals;
use crate::routes::Kind;

/// The front doors of all integrations.
#[derive(Debug)]
pub(crate) struct FrontDoor {
    doors: BTreeMap<IntegrationId, Door>,
    /// The paths of the public URLs, without a slash at the end.
    prefixes: Vec<String>,
    durable: Durable,
    clock: Clock,
    refusals: Refusals,
}

/// The front door of one integration.
#[derive(Debug)]
pub(crate) struct Door {
    integration: Arc<Integration>,
    webhook: Box<dyn Webhook>,
    keyring: Keyring,
}

impl FrontDoor {
    /// `public_urls` are the URLs that the providers call and sign.
    pub(crate) fn new(integrations: &Integrations, public_urls: &[String], durable: Durable, clock: Clock) -> Self {
        let door = |integration: &Arc<Integration>| {
            let keyring = Keyring::new(integration.provider.webhook_secrets().iter().cloned());
            let webhook = webhook(&integration.provider, public_urls);
            (integration.id.clone(), Door { integration: Arc::clone(integration), webhook, keyring })
        };
        let doors = integrations.iter().map(door).collect();
        let prefixes = public_urls.iter().filter_map(|url| path_of(url)).map(str::to_owned).collect();
        Self { doors, prefixes, durable, clock, refusals: Refusals::default() }
    }

    /// The targets that a request may mean: the one that it names, and the same without the path of a public URL, which
    /// the proxy may have kept or taken away.
    pub(crate) fn targets<'a>(&'a self, target: &'a str) -> impl Iterator<Item = &'a str> {
        iter::once(target).chain(self.prefixes.iter().filter_map(|prefix| target.strip_prefix(prefix.as_str())))
    }

    /// The door of the integration named `id`.
    pub(crate) fn door(&self, id: &str) -> Result<&Door, Problem> {
        let id = IntegrationId::parse(id).map_err(|_| Problem::UnknownIntegration)?;
        self.doors.get(&id).ok_or(Problem::UnknownIntegration)
    }

    /// Counts the result of a request, and logs a refusal.
    pub(crate) fn note(&self, id: &str, kind: Kind, accepted: &Result<StatusCode, Problem>) {
        // The id in the path comes from the caller: only the name of a known integration may become a label.
        let integration = self.door(id).map_or("unknown", |door| door.integration.id.as_str()).to_owned();
        if let Err(problem) = accepted {
            self.refusals.tell(&integration, kind.as_str(), problem);
        }
        let outcome = accepted.as_ref().map_or_else(Problem::name, |_| "accepted");
        metrics::counter!("switchboard_webhooks_total", "integration" => integration, "kind" => kind.as_str(), "outcome" => outcome)
            .increment(1);
    }

    /// The refusals that are logged as sums.
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Accepts one request at `door`: on success the message is durable.
    pub(crate) async fn accept(
        &self,
        door: &Door,
        kind: Kind,
        request: &WebhookRequest<'_>,
    ) -> Result<StatusCode, Problem> {
        door.verify(request).await?;
        let read = match kind {
            Kind::Message => Some(door.read_message(request)?),
            Kind::Status => door.read_receipt(request)?,
            Kind::Unknown => return Err(Problem::NotFound),
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
                // Always a new one: a caller that could choose it could mix its requests with those of others.
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
    /// Refuses a request whose headers alone show it to be unproven.
    pub(crate) fn check_head(&self, headers: &HeaderMap) -> Result<(), Problem> {
        Ok(self.webhook.check_head(headers)?)
    }

    /// Checks the proof, and checks it once more if a secret on disk has changed.
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
        // A repeated request has the same id, so an operator sees that it is the same.
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

    /// The receipt, if there is one in `request`. An unreadable one is dropped: it holds nothing worth keeping, and the
    /// provider need not send it again.
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

/// The path of a URL, if it has one.
fn path_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.find('/').map(|slash| rest.split_at(slash).1).filter(|path| path.len() > 1)
}

fn receipt_id(integration: &IntegrationId, receipt: &Receipt) -> MessageId {
    MessageId::of_provider(integration, &receipt.provider_message_id).derive(&format!("receipt/{:?}", receipt.state))
}
