//! `/_rest/v4/app/sms/mdr` (the state of a text) and `/_rest/v4/my/did/sms/webhook` (the webhook for inbound texts).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

use super::send::is_address;
use super::tokens::{JsonAnswer, authorize, error};
use crate::journal::MessageState;
use crate::route::Service;
use crate::world::World;

/// The message detail record of a text. The refid is in a JSON body or in the query.
pub(super) async fn status(State(world): State<Arc<World>>, uri: Uri, headers: HeaderMap, body: Bytes) -> JsonAnswer {
    if let Err(refusal) = authorize(&world, &headers) {
        return refusal;
    }
    let in_query = || {
        let query = uri.query().unwrap_or_default().as_bytes();
        form_urlencoded::parse(query).find(|(name, _)| name == "refid").map(|(_, value)| value.into_owned())
    };
    let in_body = serde_json::from_slice::<Value>(&body)
        .ok()
        .and_then(|body| body.get("refid").and_then(Value::as_str).map(str::to_owned));
    let Some(refid) = in_body.or_else(in_query) else {
        return error(StatusCode::BAD_REQUEST, "refid is missing");
    };
    let found = world.journal.find(&refid).filter(|m| m.service == Service::Intelepeer);
    let Some(message) = found else { return error(StatusCode::NOT_FOUND, "Not Found") };
    let (rcc, word) = result_code(message.state);
    let record = json!({
        "refid": refid,
        "from": message.from,
        "to": message.to,
        "guid": message.guid,
        "RCC": rcc,
        "RCC_en": word,
    });
    (StatusCode::OK, Json(record))
}

/// The documented code and word of a state.
fn result_code(state: MessageState) -> (u32, &'static str) {
    match state {
        MessageState::Received | MessageState::Accepted | MessageState::Queued => (0, "Queued"),
        MessageState::Sent => (10_000, "Sent"),
        MessageState::Delivered => (210_000, "DLR:Delivered"),
        MessageState::Undelivered => (210_001, "DLR:Undeliverable"),
        MessageState::Failed => (6009, "Failed"),
    }
}

pub(super) async fn set_webhook(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> JsonAnswer {
    if let Err(refusal) = authorize(&world, &headers) {
        return refusal;
    }
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return error(StatusCode::BAD_REQUEST, "body is not JSON");
    };
    let webhook = body.get("webhook").and_then(Value::as_str).filter(|url| url::Url::parse(url).is_ok());
    let endpoints: Option<Vec<&str>> =
        body.get("endpoints").and_then(Value::as_array).and_then(|list| list.iter().map(Value::as_str).collect());
    let (Some(webhook), Some(endpoints)) = (webhook, endpoints) else {
        return error(StatusCode::BAD_REQUEST, "endpoints or webhook is missing or malformed");
    };
    let point = |number: &str| point_number(&world, number, webhook);
    match endpoints.as_slice() {
        [] => error(StatusCode::BAD_REQUEST, "endpoints is empty"),
        [number] => match point(number) {
            StatusCode::CREATED => (StatusCode::CREATED, Json(json!({ "code": 201, "webhook": webhook }))),
            refused => error(refused, "number cannot be used"),
        },
        several => {
            let results: Vec<Value> =
                several.iter().map(|n| json!({ "endpoint": n, "code": point(n).as_u16() })).collect();
            (StatusCode::MULTI_STATUS, Json(json!({ "code": 207, "results": results })))
        }
    }
}

fn point_number(world: &World, number: &str, webhook: &str) -> StatusCode {
    if !is_address(number) {
        return StatusCode::BAD_REQUEST;
    }
    let ours = world.number(number).is_some_and(|n| n.service == Service::Intelepeer);
    let pointed = ours && world.change_number(number, |line| line.webhook = Some(webhook.to_owned()));
    if pointed { StatusCode::CREATED } else { StatusCode::NOT_FOUND }
}
