//! The JSON of a message, as the API shows it.

use serde_json::{Value, json};

use super::TwilioQuirks;
use crate::clock::rfc2822;
use crate::journal::{Direction, Message, MessageState};

/// The message with every documented field and its documented type: counts are strings, `error_code` is a number or
/// null.
pub(super) fn show(account: &str, message: &Message, quirks: &TwilioQuirks) -> Value {
    let uri = format!("/2010-04-01/Accounts/{account}/Messages/{}", message.sid);
    let direction = match message.direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound-api",
    };
    // A messaging service chooses the number later, and the text is cut into segments only then.
    let undecided = message.state == MessageState::Accepted;
    let segments = if undecided { 0 } else { segments(&message.body) };
    let body = match message.direction {
        Direction::Inbound => message.body.clone(),
        Direction::Outbound => quirks.shown(&message.body),
    };
    json!({
        "sid": message.sid,
        "account_sid": account,
        "messaging_service_sid": message.messaging_service_sid,
        "from": (!undecided).then_some(&message.from),
        "to": message.to,
        "body": body,
        "status": message.state.word(),
        "direction": direction,
        "num_segments": segments.to_string(),
        "num_media": message.media.len().to_string(),
        "price": null,
        "price_unit": "USD",
        "error_code": message.error_code,
        "error_message": message.error_code.map(|code| format!("Error {code}")),
        "api_version": "2010-04-01",
        "date_created": rfc2822(message.accepted_at),
        "date_updated": rfc2822(message.sent_at.unwrap_or(message.accepted_at)),
        "date_sent": message.sent_at.map(rfc2822),
        "uri": format!("{uri}.json"),
        "subresource_uris": { "media": format!("{uri}/Media.json"), "feedback": format!("{uri}/Feedback.json") },
    })
}

/// An upper estimate of the segments: printable ASCII counts as GSM-7; any other character makes the text UCS-2.
pub(super) fn segments(body: &str) -> usize {
    let plain = body.chars().all(|c| c == '\n' || c == '\r' || (c.is_ascii_graphic() || c == ' ') && c != '`');
    let (units, single, joined) = if plain { (body.len(), 160, 153) } else { (body.encode_utf16().count(), 70, 67) };
    if units <= single { 1 } else { units.div_ceil(joined) }
}
