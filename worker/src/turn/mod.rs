//! Takes a turn: ledger, admission, session, assistant, parts; then session and ledger change in one commit, and only
//! then may anything leave. Another worker may take the same turn at the same time: the commit says who was first.

mod admission;
mod ask;
mod ledger;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::broker::{Decision, Handler, Outcome, Reason, Settlement};
use common::clock::Clock;
use common::integration::Integrations;
use common::message::{Body, Envelope, IntegrationId};
use common::store::Expect;

use self::ledger::Entry;
use crate::assistant::Assistant;
use crate::identity::Identity;
use crate::patience::{Halt, PatientStore, Written};
use crate::session::Session;

/// How often somebody else may be first before the turn is parked.
const MAX_CONFLICTS: u32 = 5;
/// How long it is parked then.
const CONTENTION_DELAY: Duration = Duration::from_secs(5);

/// Takes turns.
pub(crate) struct TurnHandler {
    /// Who answers which numbers.
    pub(crate) integrations: Integrations,
    /// The assistant of each integration.
    pub(crate) assistants: BTreeMap<IntegrationId, Arc<dyn Assistant>>,
    /// Names customers.
    pub(crate) identity: Identity,
    /// Sessions and ledgers.
    pub(crate) store: PatientStore,
    /// The time.
    pub(crate) clock: Clock,
}

#[async_trait]
impl Handler for TurnHandler {
    async fn handle(&self, envelope: &mut Envelope) -> Decision {
        let decision = self.take(envelope).await.unwrap_or_else(Decision::from);
        metrics::counter!("switchboard_turns_total", "outcome" => outcome(&decision.settlement)).increment(1);
        decision
    }
}

impl TurnHandler {
    async fn take(&self, envelope: &mut Envelope) -> Result<Decision, Halt> {
        let Body::Inbound(inbound) = envelope.body.clone() else {
            return Ok(Decision::dead_letter(Reason::new("misrouted", "not a text from a customer")));
        };
        let mut was_ours = false;
        for _ in 0..MAX_CONFLICTS {
            let [ledger, session] = self.store.get([Entry::key(envelope), Session::key(envelope)]).await?;
            if let Some(done) = ledger.as_ref().map(Entry::read).filter(|done| done.settles(envelope)) {
                let outcome = if was_ours { Outcome::Answered } else { Outcome::Duplicate };
                return Ok(done.decision(envelope, outcome));
            }
            let running = session.as_ref().and_then(Session::read);
            let (integration, assistant) = match self.admit(envelope, running.is_some()) {
                Ok(admitted) => admitted,
                Err(refusal) => return Ok(refusal),
            };
            let taken = self.ask(envelope, &inbound, integration, assistant.as_ref(), running).await?;
            let mut writes = vec![taken.entry.write(envelope, Expect::unchanged(ledger.as_ref()))];
            writes.extend(taken.session_write(Session::key(envelope), session.as_ref(), integration));
            match self.store.commit(&writes).await? {
                Written::Applied => return Ok(taken.entry.decision(envelope, Outcome::Answered)),
                Written::Unsure => was_ours = true,
                Written::Conflict => {}
            }
            tracing::info!(message.id = %envelope.id, "another worker changed the conversation, taking the turn again");
        }
        Ok(Decision::retry_after(CONTENTION_DELAY))
    }
}

fn outcome(settlement: &Settlement) -> &'static str {
    match settlement {
        Settlement::Done(outcome) => outcome.as_str(),
        Settlement::RetryAfter(_) => "retried",
        Settlement::DeadLetter(_) => "dead_lettered",
        Settlement::GiveBack => "given_back",
    }
}
