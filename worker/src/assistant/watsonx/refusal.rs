//! What an HTTP error of watsonx, or of its token service, means; and what of its words may be shown.

use common::failure::{Failure, FailureKind};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Longer explanations are cut.
const MAX_DETAIL_CHARS: usize = 160;
/// So many characters in a row of the customer's text give it away.
const TELLTALE_CHARS: usize = 12;

/// The failure that an answer with an error `status` and `body` means. `sent` is what we sent: an explanation that
/// repeats some of it is not shown.
pub(super) fn failure(status: StatusCode, headers: &HeaderMap, body: &[u8], sent: &Value) -> Failure {
    let kind = match status.as_u16() {
        429 => FailureKind::Throttled,
        408 | 500..=599 => FailureKind::Transient,
        400 | 413 | 422 => FailureKind::Permanent,
        // 401, 403, 404, 406, and redirects, which we never follow.
        _ => FailureKind::Misconfigured,
    };
    let what = match status.as_u16() {
        401 | 403 => "the assistant refuses our credentials",
        404 => "the assistant knows no such session or assistant",
        429 => "the assistant asks us to slow down",
        500..=599 => "the assistant has an error of its own",
        _ => "the assistant refuses the call",
    };
    let what = detail(body, sent).map_or_else(|| what.to_owned(), |detail| format!("{what}: {detail}"));
    Failure::new(kind, what).with_code(status.as_str()).with_retry_after(common::http::retry_after(headers))
}

/// IBM's own words, where they are safe: `errors[0].message`, else `error`, else `message`, else IAM's `errorMessage`.
fn detail(body: &[u8], sent: &Value) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let places = ["/errors/0/message", "/error", "/message", "/errorMessage"];
    let said = places.iter().find_map(|place| body.pointer(place)?.as_str())?;
    let text = sent.pointer("/input/text").and_then(Value::as_str).unwrap_or_default();
    if gives_away(said, text) {
        return None;
    }
    let is_plain = |c: &char| c.is_ascii() && !c.is_ascii_control() && !c.is_ascii_digit();
    // Digits may be a number's or a key's.
    Some(said.chars().filter(is_plain).take(MAX_DETAIL_CHARS).collect())
}

/// Whether `said` repeats a telltale stretch of `text`.
fn gives_away(said: &str, text: &str) -> bool {
    let (said, text) = (said.to_lowercase(), text.to_lowercase());
    let chars: Vec<char> = text.trim().chars().collect();
    let length = chars.len().min(TELLTALE_CHARS);
    length > 0 && chars.windows(length).any(|stretch| said.contains(&stretch.iter().collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn failure_for(status: u16, body: &Value, text: &str) -> Failure {
        let sent = json!({ "input": { "text": text } });
        failure(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.to_string().as_bytes(), &sent)
    }

    #[test]
    fn each_status_has_its_meaning() {
        let cases = [
            (400, FailureKind::Permanent),
            (401, FailureKind::Misconfigured),
            (403, FailureKind::Misconfigured),
            (404, FailureKind::Misconfigured),
            (422, FailureKind::Permanent),
            (429, FailureKind::Throttled),
            (500, FailureKind::Transient),
            (503, FailureKind::Transient),
            (302, FailureKind::Misconfigured),
        ];
        for (status, kind) in cases {
            assert_eq!(failure_for(status, &json!({}), "").kind, kind, "{status}");
        }
    }

    #[test]
    fn explanations_are_shown_unless_they_repeat_the_text() {
        let body = json!({ "error": "Invalid Request Body", "errors": [{ "message": "text can not contain: tab." }] });
        assert!(failure_for(400, &body, "hi there").to_string().contains("text can not contain: tab. (code 400)"));
        let echo = json!({ "error": "cannot parse 'my password is hunter2'" });
        for text in ["my password is hunter2", "and MY PASSWORD IS hunter2, really", "hunter2"] {
            let shown = failure_for(400, &echo, text).to_string();
            assert!(!shown.contains("password"), "{shown}");
        }
        let number = failure_for(400, &json!({ "error": "no user +13035550199" }), "x").to_string();
        assert!(!number.contains("303"), "{number}");
    }
}
