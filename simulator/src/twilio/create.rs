//! `POST …/Messages.json`: refuses the texts that Twilio refuses; accepts all others and lets them proceed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::refusal::Refusal;
use super::{authorize, channel, follow, resource};
use crate::journal::{Direction, Message, MessageState};
use crate::route::Service;
use crate::world::{World, fresh_hex, lock};

/// The longest `Body`, in UTF-16 units, because Twilio counts some characters as two.
const MAX_BODY_UNITS: usize = 1600;
const MAX_MEDIA: usize = 10;
const MAX_CALLBACK_CHARS: usize = 4000;
/// The magic sender that is always accepted, <https://www.twilio.com/docs/iam/test-credentials>.
const MAGIC_SENDER: &str = "+15005550006";

pub(super) async fn create(
    State(world): State<Arc<World>>,
    Path(account): Path<String>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    authorize(&world, &headers, &account, uri.path())?;
    let form = Form::parse(&body);
    let message = accept(&world, &form)?;
    let shown = resource::show(&account, &message, &lock(&world.twilio_quirks));
    world.journal.add_message(message.clone());
    let following = follow(Arc::clone(&world), message);
    world.spawn(following);
    Ok((StatusCode::CREATED, Json(shown)))
}

/// A decoded form body.
struct Form(Vec<(String, String)>);

impl Form {
    fn parse(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    /// The first value that is not empty.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.clone()).collect()
    }
}

fn accept(world: &World, form: &Form) -> Result<Message, Refusal> {
    let to = form.get("To").ok_or_else(|| Refusal::bad_request(21604, "A 'To' phone number is required."))?;
    let service = form.get("MessagingServiceSid");
    let from = sender(world, form.get("From"), service)?;
    receiver(world, to, &from)?;
    let text = form.get("Body").unwrap_or_default();
    let media = form.all("MediaUrl");
    content(text, &media, form.get("ContentSid").is_some())?;
    let status_callback = form.get("StatusCallback").map(|url| callback_url(world, url)).transpose()?;

    let prefix = if media.is_empty() { "SM" } else { "MM" };
    let sid = format!("{prefix}{}", fresh_hex());
    let mut message = Message::new(Service::Twilio, Direction::Outbound, sid, &from, to, text);
    if service.is_some() && form.get("From").is_none() {
        message.state = MessageState::Accepted;
    }
    message.media = media;
    message.status_callback = status_callback;
    message.messaging_service_sid = service.map(str::to_owned);
    Ok(message)
}

/// The number from which the text is sent.
fn sender(world: &World, from: Option<&str>, service: Option<&str>) -> Result<String, Refusal> {
    let ours = |number: &str| {
        let line = channel::number_of(number);
        number == MAGIC_SENDER || world.number(line).is_some_and(|n| n.service == Service::Twilio)
    };
    let pool = service.map(|sid| pool(world, sid)).transpose()?;
    let Some(from) = from else {
        let missing = || Refusal::bad_request(21603, "A 'From' phone number is required.");
        let pool = pool.ok_or_else(missing)?;
        let next = world.pooled.fetch_add(1, Ordering::Relaxed).checked_rem(pool.len());
        return next.and_then(|next| pool.get(next).cloned()).ok_or_else(missing);
    };
    match from {
        "+15005550001" => Err(Refusal::bad_request(21212, format!("Invalid From Number (caller ID): {from}"))),
        "+15005550008" => Err(Refusal::bad_request(21611, "This 'From' number has exceeded the maximum queue size")),
        _ if pool.is_some_and(|pool| !pool.iter().any(|n| n == from)) => Err(Refusal::bad_request(
            21606,
            format!("The From phone number {from} is not in the pool of the messaging service"),
        )),
        _ if ours(from) || channel::is_agent(from) => Ok(from.to_owned()),
        _ if channel::of(from).is_some() => {
            Err(Refusal::bad_request(63007, "Twilio could not find a Channel with the specified From address"))
        }
        _ if !is_e164(from) => Err(Refusal::bad_request(21212, format!("Invalid From Number (caller ID): {from}"))),
        _ => {
            let message = format!("The From phone number {from} is not a valid, SMS-capable number of your account");
            Err(Refusal::bad_request(21606, message))
        }
    }
}

fn pool(world: &World, sid: &str) -> Result<Vec<String>, Refusal> {
    let found = world.config.twilio.messaging_services.iter().find(|service| service.sid == sid);
    let unknown = || Refusal::bad_request(21701, "The Messaging Service does not exist.");
    found.map(|service| service.numbers.clone()).ok_or_else(unknown)
}

fn receiver(world: &World, to: &str, from: &str) -> Result<(), Refusal> {
    match to {
        "+15005550002" => return Err(Refusal::bad_request(21612, "The 'To' number is not reachable via SMS or MMS")),
        "+15005550003" => return Err(Refusal::bad_request(21408, "Permission to send an SMS has not been enabled")),
        "+15005550009" => return Err(Refusal::bad_request(21614, "'To' number is not a valid mobile number")),
        _ => {}
    }
    if channel::of(to) != channel::of(from) {
        return Err(Refusal::bad_request(21910, "Invalid From and To pair. From and To should be of the same channel"));
    }
    if to == "+15005550001" || !(is_e164(to) || is_short_code(to) || channel::of(to).is_some()) {
        return Err(Refusal::bad_request(21211, format!("The 'To' number {to} is not a valid phone number.")));
    }
    if to == from {
        return Err(Refusal::bad_request(21266, "'To' and 'From' number cannot be the same"));
    }
    if to == "+15005550004" || world.opt_outs.contains(to, from) {
        return Err(Refusal::bad_request(21610, "Attempt to send to unsubscribed recipient"));
    }
    Ok(())
}

fn content(text: &str, media: &[String], template: bool) -> Result<(), Refusal> {
    if text.is_empty() && media.is_empty() && !template {
        return Err(Refusal::bad_request(21602, "Message body is required."));
    }
    if text.encode_utf16().count() > MAX_BODY_UNITS {
        return Err(Refusal::bad_request(21617, "The concatenated message body exceeds the 1600 character limit."));
    }
    if media.len() > MAX_MEDIA {
        return Err(Refusal::bad_request(21623, "Number of media files exceeds allowed limit."));
    }
    if media.iter().any(|url| !is_web_url(url)) {
        return Err(Refusal::bad_request(21620, "Invalid media URL(s)"));
    }
    Ok(())
}

fn callback_url(world: &World, url: &str) -> Result<String, Refusal> {
    if lock(&world.twilio_quirks).refuse_callbacks {
        return Err(Refusal::bad_request(21609, format!("The StatusCallback URL {url} cannot be reached.")));
    }
    if url.chars().count() > MAX_CALLBACK_CHARS || !is_web_url(url) {
        return Err(Refusal::bad_request(21609, format!("The StatusCallback URL {url} is not a valid URL.")));
    }
    Ok(url.to_owned())
}

/// Whether the URL is absolute, http or https, and without an underscore in the host name.
pub(super) fn is_web_url(url: &str) -> bool {
    url::Url::parse(url)
        .is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.host_str().is_some_and(|h| !h.contains('_')))
}

fn is_e164(number: &str) -> bool {
    let digits = number.strip_prefix('+').unwrap_or_default();
    (8..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
}

fn is_short_code(number: &str) -> bool {
    (5..=6).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
}
