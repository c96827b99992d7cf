//! Posts a customer's text to the number's webhook as IntelePeer does: as JSON, with the shared code in clear, up to
//! five times.

use http::StatusCode;
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::config::Number;
use crate::phone::{PhoneError, Text, WebhookAnswer};
use crate::twilio;
use crate::world::World;

/// The most calls of the webhook for one text, unless it answers 200.
const MAX_ATTEMPTS: u32 = 5;

/// Calls the webhook until it answers exactly 200; returns the last answer.
pub(crate) async fn deliver(world: &World, line: &Number, sid: &str, text: &Text) -> Result<WebhookAnswer, PhoneError> {
    let webhook = line.webhook.as_deref().ok_or(PhoneError::NoWebhook)?;
    let mut body = json!({
        "refid": sid,
        "from": text.from,
        "to": text.to,
        "message": text.body,
        "signature": world.config.intelepeer.secret.expose_secret(),
    });
    if !text.media.is_empty() {
        // IntelePeer does not publish the real form; this one mirrors that of outbound texts.
        body["media"] = text.media.iter().map(|m| json!({ "link": m.url, "content-type": m.content_type })).collect();
    }
    let mut attempt = 1;
    loop {
        let answer = twilio::read(world.http.post(webhook).json(&body).send().await).await;
        let done = answer.as_ref().is_ok_and(|answer| answer.status == StatusCode::OK.as_u16());
        if done || attempt == MAX_ATTEMPTS {
            return answer.map(|answer| WebhookAnswer { sid: sid.to_owned(), attempts: attempt, ..answer });
        }
        attempt += 1;
        tokio::time::sleep(world.config.intelepeer.redelivery_pause).await;
    }
}
