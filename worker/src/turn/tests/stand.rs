//! A turn handler with everything around it under the test's control.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use embedded::{Database, EmbeddedStore};
use integration::{AssistantSettings, Integration, Options, ScriptedSettings};
use message::clock::{Clock, Timestamp};
use message::failure::Failure;
use message::shutdown::Shutdown;
use message::{Address, Conversation, Envelope, IntegrationId, MessageId, SCHEMA};
use providers::ProviderSettings;
use providers::twilio::TwilioSettings;
use serde_json::{Value, json};
use store::{Commit, Key, Record, RetryingStore, Store, Write};

use crate::assistant::{Answer, Assistant, Choice, ChoiceList, Input, Item, Turn};
use crate::identity::Identity;
use crate::turn::TurnHandler;

/// 2026-01-02T03:04:05Z.
const START_S: i64 = 1_767_323_045;

/// What the assistant was asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) input: Value,
    pub(super) state: Value,
    pub(super) sms_session: String,
    pub(super) user_id: String,
}

type Script = dyn Fn(usize, &Asked) -> Result<Answer, Failure> + Send + Sync;

/// Answers as a closure says, which is told how often it was asked before.
pub(super) struct Puppet {
    script: Box<Script>,
    pub(super) asked: Mutex<Vec<Asked>>,
}

impl std::fmt::Debug for Puppet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Puppet")
    }
}

#[async_trait]
impl Assistant for Puppet {
    async fn answer(&self, turn: &Turn<'_>) -> Result<Answer, Failure> {
        let input = match turn.input {
            Input::Text(text) => json!(text.expose()),
            Input::Choice(input) => input.clone(),
        };
        let asked = Asked {
            input,
            state: turn.state.clone(),
            sms_session: turn.sms_session.to_owned(),
            user_id: turn.user_id.to_owned(),
        };
        let before = self.asked.lock().unwrap().len();
        self.asked.lock().unwrap().push(asked.clone());
        (self.script)(before, &asked).inspect_err(|failure| turn.attempts.record(failure))
    }
}

/// The embedded store, which can be made to fail or to lose the outcomes of commits.
#[derive(Debug)]
pub(super) struct Shaky {
    inner: EmbeddedStore,
    /// How many of the next calls fail.
    pub(super) away: AtomicUsize,
    /// How many of the next commits are applied and report an unknown outcome.
    pub(super) unknown: AtomicUsize,
}

fn takes_one(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

#[async_trait]
impl Store for Shaky {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Failure> {
        if takes_one(&self.away) {
            return Err(Failure::transient("away"));
        }
        self.inner.get(keys).await
    }

    async fn commit(&self, writes: &[Write]) -> Result<Commit, Failure> {
        if takes_one(&self.unknown) {
            let _ignored: Commit = self.inner.commit(writes).await?;
            return Err(Failure::unknown("no answer in time"));
        }
        self.inner.commit(writes).await
    }

    async fn check(&self) -> Result<(), Failure> {
        self.inner.check().await
    }
}

/// Two workers' worth of handlers can share one stand's store.
pub(super) struct Stand {
    pub(super) handler: Arc<TurnHandler>,
    pub(super) assistant: Arc<Puppet>,
    pub(super) store: Arc<Shaky>,
    pub(super) shutdown: Shutdown,
    now_s: Arc<AtomicI64>,
}

impl Stand {
    /// A worker whose assistant answers as `script` says.
    pub(super) fn new(
        options: Options,
        script: impl Fn(usize, &Asked) -> Result<Answer, Failure> + Send + Sync + 'static,
    ) -> Self {
        let now_s = Arc::new(AtomicI64::new(START_S));
        let ticking = now_s.clone();
        let clock = Clock::from_fn(move || Timestamp::from_second(ticking.load(Ordering::SeqCst)).unwrap());
        let inner = EmbeddedStore::new(Database::in_memory().unwrap(), clock.clone());
        let store = Arc::new(Shaky { inner, away: AtomicUsize::new(0), unknown: AtomicUsize::new(0) });
        let assistant = Arc::new(Puppet { script: Box::new(script), asked: Mutex::default() });
        let shutdown = Shutdown::new(Duration::ZERO);
        let integration = integration(options);
        let patient = RetryingStore::new(store.clone(), shutdown.clone());
        let handler = Arc::new(TurnHandler {
            assistants: [(integration.id.clone(), assistant.clone() as Arc<dyn Assistant>)].into(),
            integrations: [integration].into_iter().collect(),
            identity: Identity::new(patient.clone(), [7; 32]),
            store: patient,
            clock,
            longest_turn: Duration::from_secs(30),
        });
        Self { handler, assistant, store, shutdown, now_s }
    }

    /// The same worker with an assistant that never answers, and for which it waits `longest_turn`.
    pub(super) fn unanswered(options: Options, longest_turn: Duration) -> Self {
        #[derive(Debug)]
        struct Silent;
        #[async_trait]
        impl Assistant for Silent {
            async fn answer(&self, turn: &Turn<'_>) -> Result<Answer, Failure> {
                turn.attempts.record(&Failure::transient("no answer"));
                std::future::pending().await
            }
        }
        let mut stand = Self::echoing(options);
        if let Some(handler) = Arc::get_mut(&mut stand.handler) {
            handler.longest_turn = longest_turn;
            handler.assistants.values_mut().for_each(|one| *one = Arc::new(Silent));
        }
        stand
    }

    /// A worker whose assistant repeats what it is told.
    pub(super) fn echoing(options: Options) -> Self {
        Self::new(options, |_, asked| Ok(says(asked.input.as_str().unwrap_or("(choice)"))))
    }

    /// A text from the customer, accepted now. Equal ids make equal messages.
    pub(super) fn text(&self, id: &str, text: &str) -> Envelope {
        let integration = IntegrationId::parse("support").unwrap();
        let number = |n| Address::parse(n).unwrap();
        let inbound = json!({ "type": "inbound", "provider_message_id": id, "text": text });
        Envelope {
            schema: SCHEMA,
            id: MessageId::of_provider(&integration, id),
            integration,
            conversation: Conversation::new(number("+13035550199"), number("+17205550100")),
            accepted_at: Timestamp::from_second(self.now_s.load(Ordering::SeqCst)).unwrap(),
            attempts: Vec::new(),
            replays: Vec::new(),
            trace: String::new(),
            body: serde_json::from_value(inbound).unwrap(),
        }
    }

    pub(super) fn pass(&self, seconds: i64) {
        self.now_s.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.assistant.asked.lock().unwrap().clone()
    }
}

/// An answer of one text that leaves `"after <text>"` as the assistant's state.
pub(super) fn says(text: &str) -> Answer {
    Answer { items: vec![Item::Text(text.into())], state: json!(format!("after {text}")), ends_session: false }
}

/// An answer with a list of these labels.
pub(super) fn offers(labels: &[&str]) -> Answer {
    let choices =
        labels.iter().map(|l| Choice { label: (*l).into(), input: json!({ "text": l, "suggestion_id": "s" }) });
    let list = ChoiceList { title: "Pick".into(), description: None, choices: choices.collect() };
    Answer { items: vec![Item::Options(list)], state: json!("offered"), ends_session: false }
}

fn integration(options: Options) -> Integration {
    Integration {
        id: IntegrationId::parse("support").unwrap(),
        numbers: vec![Address::parse("+17205550100").unwrap()],
        provider: ProviderSettings::Twilio(TwilioSettings {
            account_sid: "AC".into(),
            auth_tokens: vec!["t".into()],
            base_url: "http://localhost".into(),
            api_key: None,
            messaging_service_sid: None,
        }),
        assistant: AssistantSettings::Scripted(ScriptedSettings::default()),
        options,
    }
}
