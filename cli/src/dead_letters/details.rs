//! Everything about one dead letter. The customer's words and numbers are shown only on request.

use broker::dead_letters::{Content, Letter};
use message::{Attempt, Body, Envelope, Inbound, Media, MessageText, Replay};
use serde_json::{Map, Value, json};

use super::summary::{Summary, printable};

/// All details of `letter`; words, whole numbers and the addresses of media only if `is_revealed`.
pub(super) fn json(letter: &Letter, is_revealed: bool) -> Value {
    let mut details = Summary::of(letter).json();
    let mut put = |name: &str, value: Value| {
        details[name] = value;
    };
    put("detail", json!(letter.detail));
    put(
        "headers",
        letter.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>().into(),
    );
    match &letter.content {
        Content::Unreadable { sha256, why } => {
            put("sha256", json!(sha256));
            put("unreadable", json!(why));
        }
        Content::Message(envelope) => {
            put("trace", json!(envelope.trace));
            put("attempts", envelope.attempts.iter().map(attempt).collect());
            put("replays", envelope.replays.iter().map(replay).collect());
            put("body", body(envelope, is_revealed));
            if is_revealed {
                put("customer", json!(envelope.conversation.customer.expose()));
                put("ours", json!(envelope.conversation.ours.expose()));
            }
        }
    }
    details
}

fn attempt(attempt: &Attempt) -> Value {
    json!({ "at": attempt.at.to_string(), "kind": attempt.kind.as_str(), "code": attempt.code, "what": attempt.what })
}

fn replay(replay: &Replay) -> Value {
    json!({
        "at": replay.at.to_string(), "by": replay.by, "reason": replay.reason,
        "attempts_before": replay.attempts_before, "inherited": replay.inherited,
    })
}

fn body(envelope: &Envelope, is_revealed: bool) -> Value {
    match &envelope.body {
        Body::Inbound(inbound) => {
            let mut text = inbound_text(inbound, is_revealed);
            let joined = inbound.joined.iter().map(|joined| {
                let mut text = inbound_text(&joined.inbound, is_revealed);
                text["id"] = json!(joined.id.to_string());
                text
            });
            text["type"] = json!("inbound");
            text["joined"] = joined.collect();
            text
        }
        Body::Part(part) => json!({
            "type": "part", "turn": part.turn.to_string(), "index": part.index,
            "text": words(&part.text, is_revealed), "media": media(&part.media, is_revealed),
        }),
        Body::Receipt(receipt) => json!({
            "type": "receipt", "provider_message_id": receipt.provider_message_id, "state": receipt.state,
            "part": receipt.part.map(|part| part.to_string()), "code": receipt.code,
        }),
        Body::Unread(unread) => json!({
            "type": "unread", "why": unread.why, "method": unread.method, "content_type": unread.content_type,
            "content": words(&unread.content, is_revealed),
        }),
    }
}

fn inbound_text(inbound: &Inbound, is_revealed: bool) -> Value {
    json!({
        "provider_message_id": inbound.provider_message_id,
        "text": words(&inbound.text, is_revealed), "media": media(&inbound.media, is_revealed),
    })
}

fn words(text: &MessageText, is_revealed: bool) -> Value {
    let text = text.expose();
    if is_revealed { json!(text) } else { json!(format!("({} characters, hidden)", text.chars().count())) }
}

fn media(media: &[Media], is_revealed: bool) -> Value {
    let one = |media: &Media| {
        let url = if is_revealed { media.url.as_str() } else { "(hidden)" };
        json!({ "content_type": media.content_type, "url": url })
    };
    media.iter().map(one).collect()
}

/// `details` as text for a person: one line for each value, lists indented.
pub(super) fn text(details: &Value) -> String {
    lines(details, 0).join("\n")
}

fn lines(value: &Value, depth: usize) -> Vec<String> {
    let indent = "  ".repeat(depth);
    let under = |title: String, value: &Value| {
        let mut all = vec![format!("{indent}{title}:")];
        all.extend(lines(value, depth + 1));
        all
    };
    let field = |(name, value): (&String, &Value)| match value {
        Value::Null => Vec::new(),
        Value::Object(_) => under(name.clone(), value),
        Value::Array(items) => (0..).zip(items).flat_map(|(at, item)| under(format!("{name}[{at}]"), item)).collect(),
        Value::String(words) => vec![format!("{indent}{name}: {}", printable(words))],
        Value::Bool(_) | Value::Number(_) => vec![format!("{indent}{name}: {value}")],
    };
    value.as_object().into_iter().flatten().flat_map(field).collect()
}
