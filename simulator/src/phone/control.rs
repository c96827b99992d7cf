//! The control API below `/_simulator/`: JSON in, JSON out, for the phone page and for scripts.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Phone, Text};
use crate::config::{Receipt, Receipts};
use crate::faults::FaultPlan;
use crate::journal::{Callback, Event, Message, RequestRecord};
use crate::route::Route;
use crate::twilio::TwilioQuirks;
use crate::world::{World, lock};

/// All data that the phone page needs to draw itself.
pub(super) async fn state(State(world): State<Arc<World>>) -> Json<Value> {
    let numbers: Vec<Value> = lock(&world.numbers)
        .iter()
        .map(|n| json!({ "number": n.line.number, "service": n.service, "has_webhook": n.line.webhook.is_some() }))
        .collect();
    Json(json!({
        "numbers": numbers,
        "messages": world.journal.messages(|_| true),
        "opt_outs": world.opt_outs.list(),
        "faults": pending(&world),
    }))
}

/// Sends a text as a customer. Returns the webhook's answer; 502 when there was none.
pub(super) async fn text(State(world): State<Arc<World>>, Json(text): Json<Text>) -> Response {
    match Phone::new(world).send(text).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, Json(json!({ "error": error.to_string() }))).into_response(),
    }
}

pub(super) async fn messages(State(world): State<Arc<World>>) -> Json<Vec<Message>> {
    Json(world.journal.messages(|_| true))
}

pub(super) async fn requests(State(world): State<Arc<World>>) -> Json<Vec<RequestRecord>> {
    Json(world.journal.requests())
}

pub(super) async fn callbacks(State(world): State<Arc<World>>) -> Json<Vec<Callback>> {
    Json(world.journal.callbacks())
}

#[derive(Debug, Deserialize)]
pub(super) struct Webhook {
    number: String,
    url: String,
}

pub(super) async fn set_webhook(State(world): State<Arc<World>>, Json(webhook): Json<Webhook>) -> StatusCode {
    let known = world.change_number(&webhook.number, |line| line.webhook = Some(webhook.url));
    if known { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

/// A route and a plan: `{"route": "twilio_send", "fault": {"status": {"status": 503}}, "times": 3}`.
#[derive(Debug, Deserialize)]
pub(super) struct RoutedPlan {
    route: Route,
    #[serde(flatten)]
    plan: FaultPlan,
}

pub(super) async fn add_fault(State(world): State<Arc<World>>, Json(routed): Json<RoutedPlan>) -> StatusCode {
    world.faults.add(routed.route, routed.plan);
    world.journal.tell(Event::Changed);
    StatusCode::NO_CONTENT
}

pub(super) async fn clear_faults(State(world): State<Arc<World>>) -> StatusCode {
    world.faults.clear();
    world.journal.tell(Event::Changed);
    StatusCode::NO_CONTENT
}

pub(super) async fn faults(State(world): State<Arc<World>>) -> Json<Vec<Value>> {
    Json(pending(&world))
}

fn pending(world: &World) -> Vec<Value> {
    let plans = world.faults.pending();
    plans
        .iter()
        .map(|(route, plan)| json!({ "route": route, "fault": plan.fault, "times": plan.times, "chance": plan.chance }))
        .collect()
}

#[derive(Debug, Deserialize)]
pub(super) struct NewReceipts {
    steps: Vec<Receipt>,
    pause_ms: u64,
}

pub(super) async fn set_receipts(State(world): State<Arc<World>>, Json(new): Json<NewReceipts>) -> StatusCode {
    *lock(&world.receipts) = Receipts { steps: new.steps, pause: Duration::from_millis(new.pause_ms) };
    StatusCode::NO_CONTENT
}

pub(super) async fn set_twilio_quirks(State(world): State<Arc<World>>, Json(quirks): Json<TwilioQuirks>) -> StatusCode {
    *lock(&world.twilio_quirks) = quirks;
    StatusCode::NO_CONTENT
}

/// The sessions and tokens that should expire at once.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Expire {
    IntelepeerTokens,
    AssistantTokens,
    AssistantSessions,
}

pub(super) async fn expire(State(world): State<Arc<World>>, Json(what): Json<Expire>) -> StatusCode {
    match what {
        Expire::IntelepeerTokens => world.intelepeer_tokens.expire_all(),
        Expire::AssistantTokens => world.assistant.tokens.expire_all(),
        Expire::AssistantSessions => world.assistant.sessions.expire_all(),
    }
    StatusCode::NO_CONTENT
}

/// Sets whether the assistant answers callers without credentials.
pub(super) async fn allow_anonymous(State(world): State<Arc<World>>, Json(allowed): Json<bool>) -> StatusCode {
    world.assistant.allow_anonymous(allowed);
    StatusCode::NO_CONTENT
}

/// Removes all texts, requests, callbacks and faults.
pub(super) async fn reset(State(world): State<Arc<World>>) -> StatusCode {
    world.faults.clear();
    world.journal.clear();
    StatusCode::NO_CONTENT
}
