//! `POST /_rest/v4/app/sms/send`: refuses the texts that IntelePeer documents as refused, and queues all others.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::fresh_refid;
use super::tokens::{JsonAnswer, authorize, error};
use crate::journal::{Direction, Message};
use crate::route::Service;
use crate::twilio;
use crate::world::World;

pub(super) async fn send(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> JsonAnswer {
    match accept(&world, &headers, &body) {
        Ok(message) => {
            let refid = message.sid.clone();
            world.journal.add_message(message.clone());
            // IntelePeer has no callbacks. The steps only change the state that the status call shows.
            let following = twilio::follow(Arc::clone(&world), message);
            world.spawn(following);
            (StatusCode::ACCEPTED, Json(json!({ "state": "CREATED", "refid": refid })))
        }
        Err(refusal) => refusal,
    }
}

fn accept(world: &World, headers: &HeaderMap, body: &[u8]) -> Result<Message, JsonAnswer> {
    authorize(world, headers)?;
    let bad = |why: &str| error(StatusCode::BAD_REQUEST, why);
    let json_body =
        headers.get(http::header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/json"));
    if !json_body {
        return Err(error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json"));
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| bad("body is not JSON"))?;
    let field = |name: &str| body.get(name).and_then(Value::as_str).filter(|value| !value.is_empty());
    let from = field("from").ok_or_else(|| bad("from is missing"))?;
    let to = field("to").ok_or_else(|| bad("to is missing"))?;
    let media = media_links(body.get("media")).ok_or_else(|| bad("media is malformed"))?;
    let text = field("text").or((!media.is_empty()).then_some("")).ok_or_else(|| bad("text is missing"))?;
    if !is_address(from) || !is_address(to) {
        return Err(bad("number is not in E.164 or short code form"));
    }
    if !world.number(from).is_some_and(|n| n.service == Service::Intelepeer) {
        return Err(error(StatusCode::NOT_FOUND, "number is not available for use by the customer"));
    }
    if !world.config.intelepeer.international && to.starts_with('+') && !to.starts_with("+1") {
        return Err(error(StatusCode::FORBIDDEN, "international destination is not available"));
    }
    let mut message = Message::new(Service::Intelepeer, Direction::Outbound, fresh_refid(), from, to, text);
    message.media = media;
    message.guid = field("guid").map(str::to_owned);
    Ok(message)
}

/// The links of the `media` array; `data:` stands for inline data. `None` when the array is malformed.
fn media_links(media: Option<&Value>) -> Option<Vec<String>> {
    let Some(media) = media.filter(|media| !media.is_null()) else { return Some(Vec::new()) };
    let link = |item: &Value| {
        if item.get("text").is_some() || item.get("data").is_some() {
            return Some("data:".to_owned());
        }
        let link = item.get("link")?.as_str()?;
        let scheme = link.split_once(':')?.0;
        matches!(scheme, "http" | "https" | "cpaasmedia").then(|| link.to_owned())
    };
    media.as_array()?.iter().map(link).collect()
}

/// Whether `number` is in E.164, or is a country code, a dash and a short code or name, such as `1-12345`.
pub(super) fn is_address(number: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = number.strip_prefix('+') {
        return digits(rest) && (8..=15).contains(&rest.len());
    }
    number.split_once('-').is_some_and(|(country, code)| {
        digits(country)
            && country.len() <= 3
            && (1..=11).contains(&code.len())
            && code.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}
