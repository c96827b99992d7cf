//! Posts a customer's text, signed, to the number's webhook, as Twilio does.

use bytes::BytesMut;
use http::header;
use url::Url;

use super::{resource, sign};
use crate::config::{Number, WebhookMethod};
use crate::journal::{Direction, Event, Message};
use crate::phone::{PhoneError, Text, WebhookAnswer};
use crate::route::Service;
use crate::world::{World, fresh_hex};

/// The most bytes of an answer that Twilio reads, see <https://www.twilio.com/docs/api/errors/11750>.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Calls the webhook once. By default Twilio repeats a call only after a failed connection.
pub(crate) async fn deliver(world: &World, line: &Number, sid: &str, text: &Text) -> Result<WebhookAnswer, PhoneError> {
    let webhook = line.webhook.as_deref().ok_or(PhoneError::NoWebhook)?;
    if world.opt_outs.hear(&text.from, &text.to, &text.body) {
        world.journal.tell(Event::Changed);
    }
    let answer = post(world, webhook, line.method, &parameters(world, sid, text)).await?;
    text_back(world, text, &answer);
    Ok(WebhookAnswer { sid: sid.to_owned(), ..answer })
}

/// Posts signed parameters, those of an inbound text or of a receipt, to one of our URLs.
pub(super) async fn post(
    world: &World,
    url: &str,
    method: WebhookMethod,
    form: &[(String, String)],
) -> Result<WebhookAnswer, PhoneError> {
    let mut url = Url::parse(url).map_err(|_| PhoneError::BadWebhook)?;
    // The fragment holds connection settings; it is neither sent nor signed.
    url.set_fragment(None);
    if method == WebhookMethod::Get {
        url.query_pairs_mut().extend_pairs(form);
    }
    let mut signed = url.clone();
    let bare = signed.set_username("").is_ok() && signed.set_password(None).is_ok();
    let signed = if bare { signed.as_str() } else { url.as_str() };
    let token = &world.config.twilio.auth_token;
    let request = match method {
        WebhookMethod::Get => world.http.get(url.clone()).header("X-Twilio-Signature", sign(token, signed, &[])),
        WebhookMethod::Post => {
            let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
            let request = world.http.post(url.clone()).header("X-Twilio-Signature", sign(token, signed, form));
            request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=UTF-8").body(body)
        }
    };
    let request = request
        .header(header::USER_AGENT, "TwilioProxy/1.1")
        .header(header::ACCEPT, "*/*")
        .header("I-Twilio-Idempotency-Token", fresh_hex());
    read(request.send().await).await
}

/// Reads a webhook's answer, up to [`MAX_ANSWER_BYTES`].
pub(crate) async fn read(answer: reqwest::Result<reqwest::Response>) -> Result<WebhookAnswer, PhoneError> {
    let unreachable = |e: reqwest::Error| PhoneError::Unreachable(e.without_url().to_string());
    let mut answer = answer.map_err(unreachable)?;
    let content_type = answer.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_BYTES {
            break;
        }
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(WebhookAnswer { sid: String::new(), status: answer.status().as_u16(), content_type, body, attempts: 1 })
}

/// The usual parameters of <https://www.twilio.com/docs/messaging/guides/webhook-request>.
fn parameters(world: &World, sid: &str, text: &Text) -> Vec<(String, String)> {
    let account = &world.config.twilio;
    let segments = resource::segments(&text.body).to_string();
    let media = text.media.len().to_string();
    let mut form: Vec<(String, String)> = [
        ("ToCountry", "US"),
        ("ToState", "NY"),
        ("SmsMessageSid", sid),
        ("NumMedia", &media),
        ("ToCity", "NEW YORK"),
        ("FromZip", "94103"),
        ("SmsSid", sid),
        ("FromState", "CA"),
        ("SmsStatus", "received"),
        ("FromCity", "SAN FRANCISCO"),
        ("Body", &text.body),
        ("FromCountry", "US"),
        ("To", &text.to),
        ("ToZip", ""),
        ("NumSegments", &segments),
        ("MessageSid", sid),
        ("AccountSid", &account.account_sid),
        ("From", &text.from),
        ("ApiVersion", "2010-04-01"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    if let Some(service) = account.messaging_services.iter().find(|s| s.numbers.contains(&text.to)) {
        form.push(("MessagingServiceSid".to_owned(), service.sid.clone()));
    }
    for (at, media) in text.media.iter().enumerate() {
        form.push((format!("MediaContentType{at}"), media.content_type.clone()));
        form.push((format!("MediaUrl{at}"), media.url.clone()));
    }
    form
}

/// Applies a trap of Twilio's answer rules: a `text/plain` body is sent to the customer as a text.
fn text_back(world: &World, text: &Text, answer: &WebhookAnswer) {
    let plain = answer.content_type.as_deref().is_some_and(|kind| kind.starts_with("text/plain"));
    if plain && !answer.body.is_empty() && (200..300).contains(&answer.status) {
        let sid = format!("SM{}", fresh_hex());
        let reply = Message::new(Service::Twilio, Direction::Outbound, sid, &text.to, &text.from, &answer.body);
        world.journal.add_message(reply);
    }
}
