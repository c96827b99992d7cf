//! A simulated provider, a store in memory, and the real deliverer between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use embedded::EmbeddedBroker;
use embedded::{Database, EmbeddedStore};
use integration::{AssistantSettings, Integration, Integrations, Options, ScriptedSettings};
use message::clock::{Clock, Timestamp};
use message::retry::RetryPolicy;
use message::shutdown::Shutdown;
use message::{Address, Body, Conversation, Envelope, IntegrationId, Media, MessageId, Part, SCHEMA};
use providers::intelepeer::{IntelepeerAuth, IntelepeerSettings};
use providers::twilio::TwilioSettings;
use providers::{ProviderSettings, UnknownOutcome};
use sender::{Deliverer, Pace};
use simulator::{RequestRecord, Route, Simulator, SimulatorConfig};
use work::{Decision, Handler as _, LaneState, Outcome, Settlement};
use work::{Ports, StageProgress};

pub(crate) const CUSTOMER: &str = "+14155550101";
pub(crate) const TWILIO_NUMBER: &str = "+12125550100";
pub(crate) const INTELEPEER_NUMBER: &str = "+12125550199";

/// Everything a part meets on its way out.
pub(crate) struct Rig {
    pub(crate) simulator: Simulator,
    pub(crate) integration: Integration,
    pub(crate) ports: Ports,
    pub(crate) pace: Pace,
    pub(crate) shutdown: Shutdown,
    skipped_s: Arc<AtomicI64>,
}

impl Rig {
    /// A rig with the simulator's demo Twilio account.
    pub(crate) async fn twilio() -> Self {
        Self::twilio_with(SimulatorConfig::demo()).await
    }

    /// A rig with a Twilio account.
    pub(crate) async fn twilio_with(config: SimulatorConfig) -> Self {
        let account = config.twilio.clone();
        let simulator = start(config).await;
        let settings = TwilioSettings {
            account_sid: account.account_sid,
            auth_tokens: vec![account.auth_token.into()],
            base_url: simulator.url().to_owned(),
            api_key: None,
            messaging_service_sid: None,
        };
        Self::new(simulator, ProviderSettings::Twilio(settings))
    }

    /// A rig with an IntelePeer account.
    pub(crate) async fn intelepeer(
        config: SimulatorConfig,
        auth: IntelepeerAuth,
        unknown_outcome: UnknownOutcome,
    ) -> Self {
        let account_secrets = vec![config.intelepeer.secret.clone().into()];
        let simulator = start(config).await;
        let url = simulator.url().to_owned();
        let settings =
            IntelepeerSettings { account_secrets, auth, base_url: url.clone(), login_url: url, unknown_outcome };
        Self::new(simulator, ProviderSettings::Intelepeer(settings))
    }

    fn new(simulator: Simulator, provider: ProviderSettings) -> Self {
        let integration = Integration {
            id: IntegrationId::parse("support").unwrap(),
            numbers: Vec::new(),
            options: Options::for_provider(&provider),
            provider,
            assistant: AssistantSettings::Scripted(ScriptedSettings::default()),
        };
        let (database, skipped_s) = (Database::in_memory().unwrap(), Arc::new(AtomicI64::new(0)));
        let clock = {
            let (real, skipped_s) = (Clock::system(), skipped_s.clone());
            Clock::from_fn(move || {
                let skipped_ns = i128::from(skipped_s.load(Ordering::SeqCst)) * 1_000_000_000;
                Timestamp::from_nanosecond(real.now().as_nanosecond() + skipped_ns).unwrap()
            })
        };
        let broker = Arc::new(EmbeddedBroker::new(database.clone(), clock.clone()));
        let store = Arc::new(EmbeddedStore::new(database, clock.clone()));
        let pace = Pace {
            backoff: RetryPolicy { initial: Duration::from_millis(5), max: Duration::from_millis(20) },
            in_lane: Duration::from_secs(5),
            burst: Duration::from_secs(60),
            quiet: Duration::from_millis(100),
            doubt: Duration::from_secs(60),
            call: Duration::from_secs(5),
        };
        let shutdown = Shutdown::new(Duration::from_secs(5));
        Self {
            simulator,
            integration,
            ports: Ports { broker, store, clock, progress: StageProgress::default(), heartbeats: None },
            pace,
            shutdown,
            skipped_s,
        }
    }

    /// The same rig after a stop, with a shutdown that has not started.
    pub(crate) fn restarted(self) -> Self {
        Self { shutdown: Shutdown::new(self.shutdown.grace()), ..self }
    }

    /// Lets this many seconds pass at once, or sets the clock back by as many.
    pub(crate) fn skip_s(&self, seconds: i64) {
        self.skipped_s.fetch_add(seconds, Ordering::SeqCst);
    }

    /// The deliverer of a new process: only the store keeps what was done before.
    pub(crate) fn deliverer(&self) -> InLane {
        let integrations: Integrations = [self.integration.clone()].into_iter().collect();
        let public_url = Some("https://sms.example.com");
        let deliverer = Deliverer::new(&integrations, public_url, &self.ports, self.shutdown.clone(), self.pace);
        InLane { deliverer: deliverer.unwrap(), shutdown: self.shutdown.clone() }
    }

    /// A process on another host, whose clock is this far ahead of ours, or behind.
    pub(crate) fn deliverer_elsewhere(&self, ahead_s: i64) -> InLane {
        let here = self.ports.clock.clone();
        let clock = Clock::from_fn(move || {
            let ahead_ns = i128::from(ahead_s) * 1_000_000_000;
            Timestamp::from_nanosecond(here.now().as_nanosecond() + ahead_ns).unwrap()
        });
        let integrations: Integrations = [self.integration.clone()].into_iter().collect();
        let ports = Ports { clock, ..self.ports.clone() };
        let public_url = Some("https://sms.example.com");
        let deliverer = Deliverer::new(&integrations, public_url, &ports, self.shutdown.clone(), self.pace);
        InLane { deliverer: deliverer.unwrap(), shutdown: self.shutdown.clone() }
    }

    /// The `index`th part of a reply, with these words.
    pub(crate) fn part(&self, index: u16, words: &str) -> Envelope {
        let turn = MessageId::of_provider(&self.integration.id, "SM-of-the-customer");
        let ours = match &self.integration.provider {
            ProviderSettings::Twilio(_) => TWILIO_NUMBER,
            ProviderSettings::Intelepeer(_) => INTELEPEER_NUMBER,
        };
        let conversation = Conversation::new(Address::parse(CUSTOMER).unwrap(), Address::parse(ours).unwrap());
        Envelope {
            schema: SCHEMA,
            id: turn.derive(&format!("part/{index}")),
            integration: self.integration.id.clone(),
            conversation,
            accepted_at: self.ports.clock.now(),
            attempts: Vec::new(),
            replays: Vec::new(),
            trace: String::new(),
            body: Body::Part(Part { turn, index, text: words.into(), media: Vec::new() }),
        }
    }

    /// Delivers as a new process would, and returns the decision in a word or two.
    pub(crate) async fn deliver(&self, envelope: &mut Envelope) -> String {
        said(&self.deliverer().handle(envelope).await)
    }

    /// Sends a text through the account as another program would, without our sender.
    pub(crate) async fn send_beside(&self, form: &[(&str, &str)]) {
        let ProviderSettings::Twilio(settings) = &self.integration.provider else { panic!("not Twilio") };
        let url = format!("{}/2010-04-01/Accounts/{}/Messages.json", settings.base_url, settings.account_sid);
        let token = "simulated-twilio-token";
        let client = providers::http_client::client(Duration::from_secs(5)).unwrap();
        let answer = client.post(url).basic_auth(&settings.account_sid, Some(token)).form(form).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 201);
    }

    /// The words that the provider accepted, in order.
    pub(crate) fn accepted(&self) -> Vec<String> {
        self.simulator.messages().into_iter().map(|message| message.body).collect()
    }

    /// The calls of one kind.
    pub(crate) fn calls(&self, route: Route) -> Vec<RequestRecord> {
        self.simulator.requests().into_iter().filter(|request| request.route == Some(route)).collect()
    }
}

/// A deliverer with the lane of one part, which rests between tries as the run loop has it rest.
pub(crate) struct InLane {
    deliverer: Deliverer,
    shutdown: Shutdown,
}

impl InLane {
    pub(crate) async fn handle(&self, envelope: &mut Envelope) -> Decision {
        let mut stay = LaneState::default();
        loop {
            let decision = self.deliverer.handle_in_lane(envelope, stay).await;
            let Settlement::Rest(delay) = decision.settlement else { return decision };
            stay.rested += delay;
            tokio::select! {
                biased;
                () = self.shutdown.started() => return Decision::give_back(),
                () = tokio::time::sleep(delay) => {}
            }
        }
    }
}

/// Starts a simulator without receipts: nothing in the rig takes them.
async fn start(mut config: SimulatorConfig) -> Simulator {
    config.receipts.steps.clear();
    Simulator::start(config).await.unwrap()
}

/// A decision in a word or two: the outcome, `retry`, `dead: <reason>`, or `give back`.
pub(crate) fn said(decision: &Decision) -> String {
    assert!(decision.effects.is_empty());
    match &decision.settlement {
        Settlement::Done(Outcome::Accepted) => "accepted".to_owned(),
        Settlement::Done(Outcome::Duplicate) => "duplicate".to_owned(),
        Settlement::Done(outcome) => format!("done: {}", outcome.as_str()),
        Settlement::Rest(_) => "rest".to_owned(),
        Settlement::RetryAfter(_) => "retry".to_owned(),
        Settlement::DeadLetter(reason) => format!("dead: {}", reason.name.as_str()),
        Settlement::GiveBack => "give back".to_owned(),
    }
}

/// A person replays it now.
pub(crate) fn replay(envelope: &mut Envelope) {
    envelope.replay(Clock::system().now(), "somebody@here", "the reason it had");
}

/// The same part to another customer.
pub(crate) fn to(mut envelope: Envelope, customer: &str) -> Envelope {
    envelope.conversation.customer = Address::parse(customer).unwrap();
    envelope
}

/// The same part with a picture.
pub(crate) fn with_picture(mut envelope: Envelope, url: &str) -> Envelope {
    let Body::Part(part) = &mut envelope.body else { panic!("not a part") };
    part.media.push(Media { url: url.to_owned(), content_type: Some("image/png".to_owned()) });
    envelope
}
