//! Delivers one part: asks the ledger, calls the provider, and decides what becomes of the part. Between two tries the
//! part rests in its lane, and nothing here waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::{Reason, ReasonName};
use integration::{Integration, Integrations};
use message::clock::Clock;
use message::failpoint::{self, reach};
use message::failure::{Failure, FailureKind, Scope};
use message::shutdown::Shutdown;
use message::{Attempt, Body, Envelope, IntegrationId, MessageText};
use providers::{self, Sms};
use store::Interrupted;
use tokio::time::Instant;
use work::Ports;
use work::{Decision, Handler, LaneState, Outcome};

use crate::calls::Calls;
use crate::inquiry::{Finding, Inquiry};
use crate::ledger::{Entry, Ledger, Mark, Place, State};
use crate::parked::{Cause, Hold};
use crate::pause::{Limits, Look, Pauses};
use crate::plan::{self, Call, Next, Pace, Situation, Step};
use crate::rate::{self, Number, Rates};
use crate::route::Route;
use crate::segments::segments;
use crate::turn::{self, Candidate};

/// How far the clock of the ingress that accepted a text may be ahead of ours, 1 h.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);
/// How far the clocks of two sender hosts may be apart, 10 min.
const HOSTS_APART: Duration = Duration::from_secs(10 * 60);
/// How long ago a call is assumed to have begun when that is unknown, 24 h: the longest that parts usually stay on
/// their way.
const LONGEST_UNKNOWN: Duration = Duration::from_secs(24 * 60 * 60);

/// Sends the parts of all integrations.
#[derive(Debug)]
pub struct Deliverer {
    routes: BTreeMap<IntegrationId, Route>,
    ledger: Ledger,
    pauses: Pauses,
    rates: Rates,
    calls: Calls,
    clock: Clock,
    pace: Pace,
}

/// The result of one attempt at a part.
enum Attempted {
    Done(Outcome),
    SetAside(Reason),
    /// Look again after this long.
    Again(Duration),
    /// It may not be sent yet.
    Held(Hold),
    Failed(Call, Failure),
}

impl Deliverer {
    /// Creates a deliverer with a route for each integration; receipts come back to `public_url`. Waiting ends when
    /// `shutdown` starts.
    ///
    /// # Errors
    /// When an integration's settings name no credentials, or TLS cannot be set up.
    pub fn new(
        integrations: &Integrations,
        public_url: Option<&str>,
        ports: &Ports,
        shutdown: Shutdown,
        pace: Pace,
    ) -> Result<Self, Failure> {
        let route = |integration: &Arc<Integration>| {
            let status_url = public_url.map(|url| format!("{url}/webhooks/{}/status", integration.id));
            let carrier = providers::carrier(&integration.provider, status_url, pace.call)?;
            Ok((integration.id.clone(), Route { integration: integration.clone(), carrier }))
        };
        let clock = ports.clock.clone();
        let pauses = Pauses::new(ports.store.clone(), clock.clone(), shutdown.clone());
        let ledger = Ledger::new(ports.store.clone(), shutdown);
        let routes = integrations.iter().map(route).collect::<Result<_, Failure>>()?;
        Ok(Self { routes, ledger, pauses, rates: Rates::new(pace.burst), calls: Calls::default(), clock, pace })
    }

    async fn deliver(&self, envelope: &mut Envelope, stay: LaneState) -> Result<Decision, Interrupted> {
        let Some(route) = self.routes.get(&envelope.integration) else {
            let detail = "no integration has this id";
            return Ok(Decision::dead_letter(Reason::new(ReasonName::UnknownIntegration, detail)));
        };
        let place = Place::of(envelope.key(), envelope.id);
        // When the lanes are crowded, a part that can be parked does not rest.
        let in_lane = if stay.is_crowded { Duration::ZERO } else { self.pace.in_lane };
        let (call, failure) = match self.attempt(route, envelope, &place, stay.rested).await? {
            Attempted::Done(outcome) => {
                self.forget(envelope);
                return Ok(Decision::done(outcome));
            }
            Attempted::SetAside(reason) => return self.set_aside(envelope, &place, reason).await,
            Attempted::Held(hold) if hold.is_in_lane(in_lane) => return Ok(Decision::rest(hold.delay)),
            Attempted::Held(hold) => return self.park(envelope, &place, hold).await,
            Attempted::Again(delay) => return Ok(Decision::rest(delay)),
            Attempted::Failed(call, failure) => (call, failure),
        };
        let mut backoff = self.pace.backoff.start();
        let attempts = tries(envelope);
        for _ in 0..attempts {
            // A part that was tried before, here or elsewhere, continues with the delay that it had reached; a replayed
            // one begins again.
            backoff.next_delay(None);
        }
        envelope.record_attempt(self.clock.now(), &failure);
        let (delay, cause) = match failure.kind {
            // All parts of the scope wait, so the part's own backoff does not count.
            FailureKind::Throttled => {
                let limits = Limits::of(envelope, &route.integration);
                (self.pauses.throttled(&limits, failure.scope, failure.retry_after).await?, Cause::Throttle)
            }
            _ => (backoff.next_delay(failure.retry_after), Cause::Retry),
        };
        let next = plan::after(call, &failure, tries(envelope), stay.rested, delay, in_lane);
        route.report(envelope, &failure, &next);
        match next {
            Next::OptedOut => {
                self.forget(envelope);
                self.ledger.leave(&place).await?;
                Ok(Decision::done(Outcome::OptedOut))
            }
            Next::SetAside(reason) => self.set_aside(envelope, &place, reason).await,
            Next::Park(delay) => self.park(envelope, &place, Hold { delay, cause }).await,
            Next::Wait(delay) => Ok(Decision::rest(delay)),
        }
    }

    /// Parks a part; later parts of its conversation will wait behind it, whichever process handles them.
    async fn park(&self, envelope: &Envelope, place: &Place, hold: Hold) -> Result<Decision, Interrupted> {
        let Hold { delay, cause } = hold;
        if self.ledger.park(place, hold, self.clock.now()).await? {
            metrics::counter!("switchboard_parked_total", "cause" => cause.as_str()).increment(1);
        }
        tracing::debug!(message.id = %envelope.id, integration.id = %envelope.integration, cause = cause.as_str(), ?delay, "a part waits at the broker");
        Ok(Decision::retry_after(delay))
    }

    /// Makes a part a dead letter; later parts of its conversation go on without it.
    async fn set_aside(&self, envelope: &Envelope, place: &Place, reason: Reason) -> Result<Decision, Interrupted> {
        self.forget(envelope);
        self.ledger.leave(place).await?;
        Ok(Decision::dead_letter(reason))
    }

    /// Forgets what was remembered about a part that is done.
    fn forget(&self, envelope: &Envelope) {
        self.calls.forget(envelope.id);
        self.rates.forget(&number(envelope), envelope.id);
    }

    async fn attempt(
        &self,
        route: &Route,
        envelope: &Envelope,
        place: &Place,
        rested: Duration,
    ) -> Result<Attempted, Interrupted> {
        let Body::Part(part) = &envelope.body else {
            let detail = "the message is no part of a reply";
            return Ok(Attempted::SetAside(Reason::new(ReasonName::Misrouted, detail)));
        };
        let limits = Limits::of(envelope, &route.integration);
        let (entry, look) = tokio::try_join!(self.ledger.read(place), self.pauses.look(&limits))?;
        let sms = Sms {
            part: envelope.id,
            conversation: &envelope.conversation,
            text: &part.text,
            media: &part.media,
            first_attempt_ago: self.first_attempt_ago(envelope, &entry),
        };
        let mut situation = self.situation(route, envelope, &entry);
        let mut step = plan::next(&situation);
        if step == Step::Ask {
            match self.find_out(route, envelope, place, &entry, &sms).await? {
                Ok(finding) => situation.finding = Some(finding),
                Err(attempted) => return Ok(attempted),
            }
            step = plan::next(&situation);
        }
        Ok(match step {
            Step::Drop => {
                self.ledger.leave(place).await?;
                Attempted::Done(Outcome::Duplicate)
            }
            Step::Accept(provider_id) => self.accept(route, place, &entry, &provider_id).await?,
            Step::SetAside(reason) => Attempted::SetAside(reason),
            Step::Wait(delay) if rested.saturating_add(delay) <= self.pace.in_lane => Attempted::Again(delay),
            Step::Wait(delay) => Attempted::Held(Hold { delay, cause: Cause::Retry }),
            Step::Ask => Attempted::Again(self.pace.quiet),
            Step::Send => match self.hold(route, envelope, &part.text, &entry, &look) {
                Some(hold) => Attempted::Held(hold),
                None => {
                    let sent = self.send(route, envelope, &sms, place, &entry).await?;
                    if let Attempted::Done(_) = sent {
                        self.pauses.lift(&limits, &look).await?;
                    }
                    sent
                }
            },
        })
    }

    /// Finds out what became of a call whose outcome is unknown. The inner `Err` is what follows when that cannot be
    /// told now.
    async fn find_out(
        &self,
        route: &Route,
        envelope: &Envelope,
        place: &Place,
        entry: &Entry,
        sms: &Sms<'_>,
    ) -> Result<Result<Finding, Attempted>, Interrupted> {
        if let Some(name) = self.ledger.witness(place).await? {
            return Ok(Ok(Finding::Found(name)));
        }
        // A part that came back early does not ask the provider yet.
        if let Some(hold) = entry.parked.hold_of(envelope.id, self.clock.now()) {
            return Ok(Err(Attempted::Held(hold)));
        }
        let (carrier, ledger, quiet) = (&*route.carrier, &self.ledger, self.pace.quiet);
        let inquiry = Inquiry { carrier, ledger, place, entry, quiet, deadline: self.pace.call };
        Ok(inquiry.ask(sms).await?.map_err(|failure| Attempted::Failed(Call::Ask, failure)))
    }

    async fn send(
        &self,
        route: &Route,
        envelope: &Envelope,
        sms: &Sms<'_>,
        place: &Place,
        entry: &Entry,
    ) -> Result<Attempted, Interrupted> {
        let (started_at, times_replayed) = (self.clock.now(), envelope.times_replayed());
        let first_attempt_at = entry.began_at().unwrap_or(started_at);
        let mark = Mark { first_attempt_at, started_at, times_replayed };
        if !self.ledger.begin(place, entry, mark).await? {
            // Another process is at work on this part: look again later for its result.
            return Ok(Attempted::Again(self.pace.backoff.initial));
        }
        self.calls.begin(sms.part, mark, Instant::now());
        // A provider may take several calls (a login, another form of the token). Together they end before a sender
        // that finds our mark stops waiting for us.
        reach(failpoint::Step::Sending);
        let deadline = self.pace.call.max(self.pace.quiet * 4 / 5);
        let sent = tokio::time::timeout(deadline, route.send(sms)).await;
        reach(failpoint::Step::Sent);
        match sent.unwrap_or_else(|_| Err(Failure::unknown("no answer in time"))) {
            Ok(provider_id) => self.accept(route, place, entry, &provider_id).await,
            Err(failure) => {
                if failure.kind != FailureKind::Unknown {
                    self.ledger.clear(place, mark).await?;
                }
                Ok(Attempted::Failed(Call::Send, failure))
            }
        }
    }

    async fn accept(
        &self,
        route: &Route,
        place: &Place,
        entry: &Entry,
        provider_id: &str,
    ) -> Result<Attempted, Interrupted> {
        if route.carrier.lists_other_conversations() {
            // Claimed so that no part of another conversation takes this text for its own.
            self.ledger.claim(place, provider_id).await?;
        }
        self.ledger.accept(place, entry, provider_id, self.clock.now()).await?;
        Ok(Attempted::Done(Outcome::Accepted))
    }

    /// What a part has to wait for; `None` when it may go, and then its turn is taken.
    fn hold(&self, route: &Route, envelope: &Envelope, text: &MessageText, entry: &Entry, look: &Look) -> Option<Hold> {
        let cost = rate::cost(segments(text.expose()), route.integration.options.rate_per_second);
        let (part, parked, number) = (envelope.id, &entry.parked, &number(envelope));
        let pause = look.rest(Scope::Number).max(look.rest(Scope::Account));
        let candidate = Candidate { part, number, cost, parked, pause, pair_pause: look.rest(Scope::Pair) };
        turn::hold(&self.rates, &candidate, self.clock.now(), Instant::now())
    }

    /// How long ago the first attempt began, at most: a text that the provider took before is another one.
    fn first_attempt_ago(&self, envelope: &Envelope, entry: &Entry) -> Duration {
        let State::Sending(mark) = entry.state else { return Duration::ZERO };
        if let Some(ago) = self.calls.first_attempt_ago(envelope.id, mark, Instant::now()) {
            return ago;
        }
        // If the ledger's record cannot be read, this bound is still known.
        let earliest = envelope.accepted_at.checked_sub(CLOCK_SKEW).unwrap_or(envelope.accepted_at);
        let began_at = mark.first_attempt_at.max(earliest);
        let began_at = began_at.checked_sub(HOSTS_APART).unwrap_or(began_at);
        // A clock that differs by more was set, so the time cannot be told: too long is the safe assumption.
        Duration::try_from(self.clock.now().duration_since(began_at)).unwrap_or(LONGEST_UNKNOWN)
    }

    fn situation<'a>(&self, route: &Route, envelope: &Envelope, entry: &'a Entry) -> Situation<'a> {
        Situation {
            state: &entry.state,
            finding: None,
            has_receipts: route.carrier.has_receipts(),
            unknown_outcome: route.integration.options.unknown_outcome,
            called_ago: match entry.state {
                State::Sending(mark) => self.calls.elapsed(envelope.id, mark, Instant::now()),
                State::Untouched | State::Accepted { .. } => Duration::ZERO,
            },
            age: self.clock.age(envelope.age_counts_from()),
            times_replayed: envelope.times_replayed(),
            max_age: route.integration.options.reply_max_age,
            quiet: self.pace.quiet,
            doubt: self.pace.doubt,
        }
    }
}

#[async_trait]
impl Handler for Deliverer {
    async fn handle(&self, envelope: &mut Envelope) -> Decision {
        self.handle_in_lane(envelope, LaneState::default()).await
    }

    async fn handle_in_lane(&self, envelope: &mut Envelope, stay: LaneState) -> Decision {
        // Stopping costs no attempt: the next process finds in the ledger how far we came.
        self.deliver(envelope, stay).await.unwrap_or_else(Decision::from)
    }
}

/// How many tries of a part have failed since it was last replayed. Throttles do not count: the part's age ends those.
fn tries(envelope: &Envelope) -> usize {
    let counts = |attempt: &&Attempt| attempt.kind != FailureKind::Throttled;
    envelope.attempts_since_replay().iter().filter(counts).count()
}

fn number(envelope: &Envelope) -> Number {
    (envelope.integration.clone(), envelope.conversation.ours.clone())
}
