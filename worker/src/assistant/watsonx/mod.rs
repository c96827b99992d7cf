//! IBM watsonx Assistant through its v2 API, at one location or several.
//! <https://cloud.ibm.com/apidocs/assistant-v2>

mod auth;
mod circuit;
mod client;
mod input;
mod location;
mod refusal;
mod reply;
mod request;
mod token;

use async_trait::async_trait;
use integration::WatsonxSettings;
use message::failure::{Failure, FailureKind};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::location::Location;
use super::{Answer, Assistant, Turn};

/// A watsonx Assistant and its backups.
#[derive(Debug)]
pub(super) struct Watsonx {
    locations: Vec<Location>,
}

/// What a conversation must remember for the next turn.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    /// Which location has the session.
    location: usize,
    /// The assistant's name for it.
    session: Option<String>,
    /// Whether the last turn carried media, which the next one must clear.
    had_media: bool,
    /// `smsConversationResponseTimeout`, if the assistant set it.
    response_timeout_ms: Option<u64>,
}

impl Watsonx {
    /// The assistant that `settings` describe.
    ///
    /// # Errors
    /// When a URL is invalid, or TLS cannot be set up.
    pub(super) fn new(settings: &WatsonxSettings) -> Result<Self, Failure> {
        let http = providers::http_client::client(settings.timeout)?;
        let open = |location| Location::new(location, settings, http.clone());
        Ok(Self { locations: settings.locations.iter().map(open).collect::<Result<_, _>>()? })
    }

    /// The locations in the order in which they are asked: first the one that has the session.
    fn in_order(&self, state: &State) -> impl Iterator<Item = (usize, &Location)> {
        let home = if state.session.is_some() { state.location } else { 0 };
        let numbered = || self.locations.iter().enumerate();
        numbered().filter(move |(at, _)| *at == home).chain(numbered().filter(move |(at, _)| *at != home))
    }

    async fn ask(
        &self,
        at: usize,
        location: &Location,
        turn: &Turn<'_>,
        state: &State,
        last_resort: bool,
    ) -> Result<Answer, Failure> {
        let elsewhere = State { session: None, ..state.clone() };
        let known = if at == state.location { state } else { &elsewhere };
        let taken = location.take_turn(turn, known, at, last_resort).await;
        let (reply, state) = taken.inspect_err(|failure| {
            tracing::warn!(assistant.location = at, failure = %failure, "an assistant's location took no turn");
        })?;
        let state = serde_json::to_value(state)
            .map_err(|e| Failure::permanent("cannot write down the assistant's state").caused_by(e))?;
        Ok(Answer { items: reply.items, ends_session: reply.ends_session, state })
    }
}

#[async_trait]
impl Assistant for Watsonx {
    async fn answer(&self, turn: &Turn<'_>) -> Result<Answer, Failure> {
        let state: State = serde_json::from_value(turn.state.clone()).unwrap_or_default();
        let mut failure = Failure::misconfigured("the assistant has no location");
        let mut shunned = Vec::new();
        for (at, location) in self.in_order(&state) {
            if !location.circuit.admits(Instant::now()) {
                shunned.push((at, location));
                continue;
            }
            match self.ask(at, location, turn, &state, false).await {
                Err(error) if is_beyond_reach(&error) => failure = error,
                answered_or_refused => return answered_or_refused,
            }
        }
        // No other location answered, so each location whose circuit is open is asked once: the customer may still get
        // an answer.
        for (at, location) in shunned {
            match self.ask(at, location, turn, &state, true).await {
                Err(error) if is_beyond_reach(&error) => failure = error,
                answered_or_refused => return answered_or_refused,
            }
        }
        Err(failure)
    }
}

/// Whether another location may still answer: after every failure but a refusal of this very text.
fn is_beyond_reach(failure: &Failure) -> bool {
    failure.kind != FailureKind::Permanent
}
