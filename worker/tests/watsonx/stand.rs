//! A simulated watsonx, and an assistant that talks to it.

use std::sync::Arc;
use std::time::Duration;

use integration::{AssistantAuth, AssistantSettings, WatsonxLocation, WatsonxSettings};
use message::clock::Clock;
use message::failure::Failure;
use message::{Address, Attempt, Conversation, Media, MessageText};
use serde_json::Value;
use simulator::watsonx::WatsonxInstance;
use simulator::{RequestRecord, Route, Simulator, SimulatorConfig};
use worker::assistant::{self, Answer, Assistant, Attempts, Input, Item, Turn};

/// A fresh simulator.
pub(crate) async fn simulated() -> Simulator {
    Simulator::start(SimulatorConfig::demo()).await.unwrap()
}

/// The simulated assistant on the newer paths, by API key.
pub(crate) fn location(simulator: &Simulator) -> WatsonxLocation {
    let instance = WatsonxInstance::demo();
    WatsonxLocation {
        url: format!("{}/instances/i-1", simulator.url()),
        assistant_id: instance.assistant_id,
        environment_id: Some(instance.environment_id),
        version: "2024-08-25".into(),
        auth: AssistantAuth::ApiKey(instance.api_keys[0].clone().into()),
    }
}

/// Two retries, quickly.
pub(crate) fn settings(locations: Vec<WatsonxLocation>) -> WatsonxSettings {
    let retry_interval = Duration::from_millis(5);
    WatsonxSettings { locations, timeout: Duration::from_secs(20), retries: 2, retry_interval }
}

/// One customer's conversation with an assistant.
pub(crate) struct Customer {
    assistant: Arc<dyn Assistant>,
    /// What the last answer left.
    pub(crate) state: Value,
    /// What goes along with the next text.
    pub(crate) media: Vec<Media>,
    /// What was tried and failed in the last turn that failed.
    pub(crate) attempts: Vec<Attempt>,
}

impl Customer {
    /// Of an assistant with these settings.
    pub(crate) fn of(settings: WatsonxSettings) -> Self {
        let assistant = assistant::open(&AssistantSettings::Watsonx(Box::new(settings))).unwrap();
        Self { assistant, state: Value::Null, media: Vec::new(), attempts: Vec::new() }
    }

    /// Of the simulated assistant as usual.
    pub(crate) fn at(simulator: &Simulator) -> Self {
        Self::of(settings(vec![location(simulator)]))
    }

    /// Another customer of the same assistant.
    pub(crate) fn another(&self) -> Self {
        Self { assistant: self.assistant.clone(), state: Value::Null, media: Vec::new(), attempts: Vec::new() }
    }

    /// Says `text`.
    pub(crate) async fn say(&mut self, text: &str) -> Result<Answer, Failure> {
        self.turn(Input::Text(&MessageText::from(text))).await
    }

    /// Takes a turn, and keeps the state that its answer leaves.
    pub(crate) async fn turn(&mut self, input: Input<'_>) -> Result<Answer, Failure> {
        let number = |n| Address::parse(n).unwrap();
        let attempts = Attempts::new(Clock::system());
        let turn = Turn {
            input,
            state: &self.state,
            user_id: "0123456789abcdef0123456789abcdef",
            conversation: &Conversation::new(number("+13035550199"), number("+17205550100")),
            sms_session: "6b1c36a5-0d3d-5f2e-9d67-1a2b3c4d5e6f",
            media: &self.media,
            attempts: &attempts,
        };
        let answered = self.assistant.answer(&turn).await;
        match &answered {
            Ok(answer) => self.state = answer.state.clone(),
            Err(failure) => self.attempts = attempts.into_failed(failure),
        }
        answered
    }
}

/// The texts of an answer, lists left out.
pub(crate) fn texts(answer: &Answer) -> Vec<&str> {
    let mut texts = Vec::new();
    for item in &answer.items {
        if let Item::Text(text) = item {
            texts.push(text.expose());
        }
    }
    texts
}

/// The calls of one route, as the simulator saw them.
pub(crate) fn calls(simulator: &Simulator, route: Route) -> Vec<RequestRecord> {
    simulator.requests().into_iter().filter(|request| request.route == Some(route)).collect()
}
