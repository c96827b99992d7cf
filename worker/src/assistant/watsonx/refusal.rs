//! What an HTTP error of watsonx, or of its token service, means. Nothing of what its body says is shown: it may repeat
//! the customer's words, a variable of the conversation, or a key. IBM's own codes and a few of its sentences are
//! recognised and reported in our words.

use message::failure::{Failure, FailureKind};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// The failure that an answer with an error `status` and `body` means.
pub(super) fn failure(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
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
    let what = explanation(body).map_or_else(|| what.to_owned(), |why| format!("{what}: {why}"));
    Failure::new(kind, what).with_code(status.as_str()).with_retry_after(providers::http_client::retry_after(headers))
}

/// Where an explanation stands: the first three in watsonx's answers, the last one in IAM's.
const PLACES: [&str; 4] = ["/errors/0/message", "/error", "/message", "/errorMessage"];

/// How IBM's known sentences begin, in lower case, and what each says in our words.
const KNOWN: [(&str, &str); 9] = [
    ("text can not contain the following characters", "the text has a tab or a line end"),
    ("text cannot be longer", "the text is too long"),
    ("text can not be longer", "the text is too long"),
    ("invalid session", "the session is over"),
    ("invalid request body", "the request's body is wrong"),
    ("provided api key could not be found", "the API key is unknown"),
    ("resource not found", "the assistant or its environment is unknown"),
    ("too many requests", "too many requests"),
    ("webhook", "a webhook of the assistant failed"),
];

/// IBM's code and a known sentence, if the body has them.
fn explanation(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let said = PLACES.iter().filter_map(|place| body.pointer(place)?.as_str()).map(str::to_lowercase);
    let known = said.filter_map(|said| KNOWN.iter().find(|(begin, _)| said.trim_start().starts_with(begin)));
    let known = known.map(|(_, ours)| *ours).next();
    let code = ["/errorCode", "/errors/0/code"].iter().find_map(|place| body.pointer(place)?.as_str());
    let code = code.filter(|code| is_code_of_ibm(code));
    match (code, known) {
        (None, None) => None,
        (Some(code), None) => Some(code.to_owned()),
        (None, Some(known)) => Some(known.to_owned()),
        (Some(code), Some(known)) => Some(format!("{known} ({code})")),
    }
}

/// `BXNIM0415E` and its like: <https://cloud.ibm.com/apidocs/iam-identity-token-api>.
fn is_code_of_ibm(code: &str) -> bool {
    let digits =
        code.strip_prefix("BXN").and_then(|rest| rest.get(2..)).and_then(|rest| rest.strip_suffix(['E', 'W', 'I']));
    digits.is_some_and(|digits| digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()))
        && code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn failure_for(status: u16, body: &Value) -> Failure {
        failure(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.to_string().as_bytes())
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
            assert_eq!(failure_for(status, &json!({})).kind, kind, "{status}");
        }
    }

    #[test]
    fn known_sentences_and_codes_are_told_in_our_words() {
        let tab = "text can not contain the following characters: tab, new line, carriage return.";
        let unknown_key = "Provided API key could not be found.";
        for (body, told) in [
            (
                json!({ "error": "Invalid Request Body", "errors": [{ "message": tab }] }),
                "call: the text has a tab or a line end (code 400)",
            ),
            (json!({ "error": "Invalid Session", "code": 404 }), "call: the session is over (code 400)"),
            (
                json!({ "errorCode": "BXNIM0415E", "errorMessage": unknown_key }),
                "call: the API key is unknown (BXNIM0415E) (code 400)",
            ),
            (json!({ "error": "something else" }), "the assistant refuses the call (code 400)"),
            (json!({ "errorCode": "hunter2" }), "the assistant refuses the call (code 400)"),
        ] {
            let shown = failure_for(400, &body).to_string();
            assert!(shown.ends_with(told), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn b8_nothing_that_the_assistant_says_is_shown(status in 300_u16..600, said in "[a-z]{3} ?[a-z0-9 ]{4,40}", known in 0..KNOWN.len()) {
            let silent = failure_for(status, &json!({})).to_string();
            let body = json!({ "error": said, "message": said, "errorMessage": said, "errorCode": said, "code": said,
                "errors": [{ "message": said, "code": said, "path": said }] });
            prop_assert!(KNOWN.iter().any(|(begin, _)| said.starts_with(begin)) || failure_for(status, &body).to_string() == silent);
            let (begin, ours) = KNOWN[known];
            let shown = failure_for(status, &json!({ "error": format!("{begin} {said}") })).to_string();
            prop_assert_eq!(shown, silent.replace(" (code", &format!(": {ours} (code")));
        }
    }
}
