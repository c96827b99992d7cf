//! `…/IncomingPhoneNumbers`: the account's numbers and their webhooks.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use super::authorize;
use super::create::is_web_url;
use super::refusal::Refusal;
use crate::config::{Number, WebhookMethod};
use crate::route::Service;
use crate::world::{World, lock};

pub(super) async fn list(
    State(world): State<Arc<World>>,
    Path(account): Path<String>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    authorize(&world, &headers, &account, uri.path())?;
    let query: Vec<_> = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    // A part of the number is enough, as at Twilio.
    let wanted = query.iter().find(|(name, _)| name == "PhoneNumber").map(|(_, value)| value.as_str());
    let page_size = query.iter().find(|(name, _)| name == "PageSize").and_then(|(_, value)| value.parse().ok());
    let shown: Vec<Value> = ours(&world)
        .iter()
        .filter(|line| wanted.is_none_or(|wanted| line.number.contains(wanted)))
        .take(page_size.unwrap_or(50))
        .map(|line| show(&account, line))
        .collect();
    Ok(Json(json!({
        "page": 0,
        "page_size": page_size.unwrap_or(50),
        "start": 0,
        "end": shown.len().saturating_sub(1),
        "first_page_uri": uri.path_and_query().map(|whole| whole.as_str()),
        "next_page_uri": null,
        "previous_page_uri": null,
        "uri": uri.path_and_query().map(|whole| whole.as_str()),
        "incoming_phone_numbers": shown,
    })))
}

pub(super) async fn fetch(
    State(world): State<Arc<World>>,
    Path((account, file)): Path<(String, String)>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    authorize(&world, &headers, &account, uri.path())?;
    let line = find(&world, &file).ok_or_else(|| Refusal::not_found(uri.path()))?;
    Ok(Json(show(&account, &line)))
}

pub(super) async fn update(
    State(world): State<Arc<World>>,
    Path((account, file)): Path<(String, String)>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    authorize(&world, &headers, &account, uri.path())?;
    let mut line = find(&world, &file).ok_or_else(|| Refusal::not_found(uri.path()))?;
    for (name, value) in form_urlencoded::parse(&body).into_owned() {
        match (name.as_str(), value.as_str()) {
            ("SmsUrl", "") => line.webhook = None,
            ("SmsUrl", url) if is_web_url(url) => line.webhook = Some(value),
            ("SmsUrl", _) => return Err(Refusal::bad_request(21402, "SmsUrl is not a valid URL")),
            ("SmsMethod", "GET") => line.method = WebhookMethod::Get,
            ("SmsMethod", "POST") => line.method = WebhookMethod::Post,
            ("SmsMethod", _) => return Err(Refusal::bad_request(21403, "SmsMethod is not a valid HTTP method")),
            _ => {}
        }
    }
    let shown = show(&account, &line);
    world.change_number(&line.number.clone(), |old| *old = line);
    Ok(Json(shown))
}

fn ours(world: &World) -> Vec<Number> {
    lock(&world.numbers).iter().filter(|n| n.service == Service::Twilio).map(|n| n.line.clone()).collect()
}

fn find(world: &World, file: &str) -> Option<Number> {
    let sid = file.strip_suffix(".json").unwrap_or(file);
    ours(world).into_iter().find(|line| sid_of(&line.number) == sid)
}

/// The id of a number; it is always the same for one number.
fn sid_of(number: &str) -> String {
    let digest = hex::encode(Sha1::digest(number.as_bytes()));
    format!("PN{}", digest.get(..32).unwrap_or_default())
}

fn show(account: &str, line: &Number) -> Value {
    let sid = sid_of(&line.number);
    let method = match line.method {
        WebhookMethod::Post => "POST",
        WebhookMethod::Get => "GET",
    };
    json!({
        "sid": sid,
        "account_sid": account,
        "phone_number": line.number,
        "friendly_name": line.number,
        "capabilities": { "sms": true, "mms": true, "voice": true, "fax": false },
        "sms_url": line.webhook.as_deref().unwrap_or_default(),
        "sms_method": method,
        "sms_fallback_url": "",
        "sms_fallback_method": "POST",
        "sms_application_sid": "",
        "status": "in-use",
        "status_callback": "",
        "status_callback_method": "POST",
        "api_version": "2010-04-01",
        "beta": false,
        "origin": "twilio",
        "date_created": "Thu, 24 Aug 2023 05:01:45 +0000",
        "date_updated": "Thu, 24 Aug 2023 05:01:45 +0000",
        "uri": format!("/2010-04-01/Accounts/{account}/IncomingPhoneNumbers/{sid}.json"),
    })
}
