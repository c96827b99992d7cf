//! One place where an assistant runs: opens sessions there and takes turns in them.

use std::time::Duration;

use integration::{WatsonxLocation, WatsonxSettings};
use message::failure::{Failure, FailureKind};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::State;
use super::circuit::Circuit;
use super::client::{Client, Patience, is_status};
use super::reply::Reply;
use super::request;
use crate::assistant::Turn;

/// How many empty turns in a row an assistant may ask for with `skip_user_input`.
const MAX_EMPTY_TURNS: usize = 5;

/// One location.
#[derive(Debug)]
pub(super) struct Location {
    client: Client,
    /// The path of its sessions, below `/v2`.
    sessions: Vec<String>,
    patience: Patience,
    /// Tells whether the location may be asked as usual.
    pub(super) circuit: Circuit,
}

/// A session while a turn is taken in it.
struct Session<'a> {
    turn: &'a Turn<'a>,
    patience: Patience,
    id: Option<String>,
    was_renewed: bool,
}

impl Location {
    /// The location that `location` describes.
    ///
    /// # Errors
    /// When its URL is invalid.
    pub(super) fn new(
        location: &WatsonxLocation,
        settings: &WatsonxSettings,
        http: reqwest::Client,
    ) -> Result<Self, Failure> {
        let mut sessions = vec!["assistants".to_owned(), location.assistant_id.clone()];
        if let Some(environment) = &location.environment_id {
            sessions.extend(["environments".to_owned(), environment.clone()]);
        }
        sessions.push("sessions".to_owned());
        let patience =
            Patience { timeout: settings.timeout, retries: settings.retries, interval: settings.retry_interval };
        Ok(Self { client: Client::new(location, http)?, sessions, patience, circuit: Circuit::default() })
    }

    /// Takes `turn` in the session of `state`, or in a new one; returns the answer and the state for the next turn,
    /// which remembers this location as number `at`. As a `last_resort` no call is retried.
    ///
    /// # Errors
    /// The last failure.
    pub(super) async fn take_turn(
        &self,
        turn: &Turn<'_>,
        state: &State,
        at: usize,
        last_resort: bool,
    ) -> Result<(Reply, State), Failure> {
        let patience = self.patience(state, last_resort);
        let mut session = Session { turn, patience, id: state.session.clone(), was_renewed: false };
        let taken = self.converse(&mut session, state.had_media).await;
        match &taken {
            Err(failure) if failure.kind != FailureKind::Permanent => self.circuit.failed(Instant::now()),
            _ => self.circuit.succeeded(),
        }
        let reply = taken?;
        let state = State {
            location: at,
            session: session.id,
            had_media: !turn.media.is_empty(),
            response_timeout_ms: reply.response_timeout_ms,
        };
        Ok((reply, state))
    }

    /// With a timeout that the assistant set, one more attempt is made when it is over, as IBM documents it.
    fn patience(&self, state: &State, last_resort: bool) -> Patience {
        let mut patience = self.patience;
        if let Some(timeout_ms) = state.response_timeout_ms {
            patience.timeout = Duration::from_millis(timeout_ms);
            patience.retries = patience.retries.min(1);
        }
        if last_resort {
            patience.retries = 0;
        }
        patience
    }

    /// Takes the turn, and the empty turns that the assistant asks for in between, and joins the replies.
    async fn converse(&self, session: &mut Session<'_>, had_media: bool) -> Result<Reply, Failure> {
        let mut reply = self.message(session, &request::body(session.turn, had_media)).await?;
        for _ in 0..MAX_EMPTY_TURNS {
            if !reply.skips_user_input || reply.ends_session {
                break;
            }
            let next = self.message(session, &request::empty_body(session.turn)).await?;
            reply.items.extend(next.items);
            reply = Reply { items: reply.items, ..next };
        }
        Ok(reply)
    }

    /// Sends `body`; a session that is over is replaced once in a turn, and the same body is sent again.
    async fn message(&self, session: &mut Session<'_>, body: &Value) -> Result<Reply, Failure> {
        loop {
            let id = match &session.id {
                Some(id) => id.clone(),
                None => session.id.insert(self.create_session(session).await?).clone(),
            };
            let path = self.path(&[&id, "message"]);
            match self.client.post(&path, body, session.patience, session.turn.attempts).await {
                Err(failure) if is_status(&failure, StatusCode::NOT_FOUND) && !session.was_renewed => {
                    tracing::info!("the assistant's session is over, opening a new one");
                    (session.id, session.was_renewed) = (None, true);
                }
                answered => return Reply::read(&answered?),
            }
        }
    }

    async fn create_session(&self, session: &Session<'_>) -> Result<String, Failure> {
        let created = self.client.post(&self.path(&[]), &json!({}), session.patience, session.turn.attempts).await?;
        let id = created.get("session_id").and_then(Value::as_str);
        id.map(str::to_owned).ok_or_else(|| Failure::unknown("the assistant's new session has no id"))
    }

    fn path<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        self.sessions.iter().map(String::as_str).chain(more.iter().copied()).collect()
    }
}
