//! Takes a turn: ledger, admission, session, assistant, parts; then session and ledger change in one commit, and only
//! then may anything leave. Another worker may take the same turn at the same time: the commit decides which of them
//! was first.

mod admission;
mod ask;
mod burst;
mod ledger;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::{Reason, ReasonName};
use integration::Integrations;
use message::clock::Clock;
use message::failpoint::{Step, reach};
use message::retry::RetryPolicy;
use message::{Body, Envelope, IntegrationId};
use store::{CommitOutcome, Expect, Interrupted, Record, RetryingStore};
use work::{Decision, Handler, Outcome};

use self::burst::Divided;
use self::ledger::Entry;
use crate::assistant::Assistant;
use crate::identity::Identity;
use crate::session::Session;

/// Takes turns.
pub(crate) struct TurnHandler {
    /// The integrations: which assistant answers which numbers.
    pub(crate) integrations: Integrations,
    /// The assistant of each integration.
    pub(crate) assistants: BTreeMap<IntegrationId, Arc<dyn Assistant>>,
    /// Names customers.
    pub(crate) identity: Identity,
    /// Sessions and ledgers.
    pub(crate) store: RetryingStore,
    /// The time.
    pub(crate) clock: Clock,
    /// How long an assistant may take for a turn.
    pub(crate) longest_turn: Duration,
}

#[async_trait]
impl Handler for TurnHandler {
    async fn handle(&self, envelope: &mut Envelope) -> Decision {
        let decision = self.take(envelope).await.unwrap_or_else(Decision::from);
        metrics::counter!("switchboard_turns_total", "outcome" => decision.settlement.as_str()).increment(1);
        decision
    }

    fn join_window(&self, envelope: &Envelope) -> Duration {
        self.integrations.get(&envelope.integration).map_or(Duration::ZERO, |one| one.options.coalesce_window)
    }
}

impl TurnHandler {
    /// Takes the texts in `envelope` as one turn. If they were delivered before, together with other texts, those that
    /// were taken are settled as they were then, one after the other, because their parts may not have been published
    /// yet.
    async fn take(&self, envelope: &mut Envelope) -> Result<Decision, Interrupted> {
        let mut earlier = Vec::new();
        loop {
            let Taking { mut decision, rest } = self.take_first(envelope).await?;
            let Some(rest) = rest else {
                earlier.append(&mut decision.effects);
                return Ok(decision.publishing(earlier));
            };
            earlier.extend(burst::effects(decision, envelope));
            *envelope = rest;
        }
    }

    /// Takes the first of the texts, with those that make one turn with it, and leaves these in `envelope`.
    async fn take_first(&self, envelope: &mut Envelope) -> Result<Taking, Interrupted> {
        let mut was_ours = false;
        let mut backoff = RetryPolicy::NEAR.start();
        loop {
            let mut found = self.look_up(envelope).await?;
            let done = found.ledger.as_ref().map(Entry::read).filter(|done| done.settles(envelope));
            let Divided { mut turn, records, rest } = burst::divide(envelope, found.joined, done.is_some());
            found.joined = records;
            let decision = match done {
                Some(done) => {
                    Some(done.decision(&mut turn, if was_ours { Outcome::Answered } else { Outcome::Duplicate }))
                }
                None => self.try_turn(&mut turn, &found).await?.settled(&mut was_ours),
            };
            if let Some(decision) = decision {
                *envelope = turn;
                return Ok(Taking { decision, rest });
            }
            // Waits here and is not parked at the broker: there the conversation's later texts would overtake this one.
            tracing::info!(message.id = %envelope.id, "another worker changed the conversation, taking the turn again");
            self.store.pause(backoff.next_delay(None)).await?;
        }
    }

    async fn look_up(&self, envelope: &Envelope) -> Result<Found, Interrupted> {
        let mut keys = vec![Entry::key(envelope), Session::key(envelope)];
        keys.extend(burst::keys(envelope));
        let mut records = self.store.get_all(&keys).await?.into_iter();
        let (ledger, session) = (records.next().flatten(), records.next().flatten());
        Ok(Found { ledger, session, joined: records.collect() })
    }

    async fn try_turn(&self, envelope: &mut Envelope, found: &Found) -> Result<Tried, Interrupted> {
        let inbound = match envelope.body.clone() {
            Body::Inbound(inbound) => inbound,
            other => return Ok(Tried::Decided(Decision::dead_letter(not_a_text(other)))),
        };
        let running = found.session.as_ref().and_then(Session::read);
        let (integration, assistant) = match self.admit(envelope, running.is_some()) {
            Ok(admitted) => admitted,
            Err(refusal) => return Ok(Tried::Decided(refusal)),
        };
        let taken = self.ask(envelope, &inbound, integration, assistant.as_ref(), running).await?;
        reach(Step::Answered);
        let mut writes = vec![taken.entry.put(Entry::key(envelope), Expect::unchanged(found.ledger.as_ref()))];
        writes.extend(burst::writes(envelope, &found.joined));
        writes.extend(taken.session_write(Session::key(envelope), found.session.as_ref(), integration));
        let written = self.store.commit(&writes).await?;
        reach(Step::Recorded);
        Ok(match written {
            CommitOutcome::Applied => Tried::Decided(taken.entry.decision(envelope, Outcome::Answered)),
            CommitOutcome::Unsure => Tried::Unsure,
            CommitOutcome::Conflict => Tried::Conflict,
        })
    }
}

/// The reason of the dead letter that a message becomes that is no text from a customer.
fn not_a_text(body: Body) -> Reason {
    match body {
        Body::Unread(unread) => Reason::new(ReasonName::Unreadable, unread.why),
        _ => Reason::new(ReasonName::Misrouted, "not a text from a customer"),
    }
}

/// The decision about a text and those taken with it, and the texts that make no turn with them.
struct Taking {
    decision: Decision,
    rest: Option<Envelope>,
}

/// What the store knows.
struct Found {
    ledger: Option<Record>,
    session: Option<Record>,
    joined: Vec<Option<Record>>,
}

/// The result of a try.
enum Tried {
    Decided(Decision),
    Unsure,
    Conflict,
}

impl Tried {
    /// The decision, if there is one. An unsure commit sets `was_ours`: the entry that is found next may be our own.
    fn settled(self, was_ours: &mut bool) -> Option<Decision> {
        match self {
            Self::Decided(decision) => Some(decision),
            Self::Unsure => {
                *was_ours = true;
                None
            }
            Self::Conflict => None,
        }
    }
}
