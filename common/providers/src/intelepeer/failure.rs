//! What IntelePeer's refusals mean. Only a few statuses are documented; the others are classified with caution.

use message::failure::{Failure, FailureKind, Scope};
use serde::Deserialize;

use super::super::answer::Answer;

/// Classifies an answer other than success.
pub(super) fn of_answer(answer: &Answer) -> Failure {
    #[derive(Deserialize)]
    struct Error {
        code: Option<u32>,
    }
    let code = answer.json::<Error>().and_then(|error| error.code);
    let status = answer.status.as_u16();
    let (kind, what) = meaning(status);
    let code = code.map_or_else(|| status.to_string(), |code| code.to_string());
    // IntelePeer limits the calls of the user, hence the scope; texts that a number sends too fast it queues itself.
    Failure::new(kind, what).with_code(code).with_scope(Scope::Account).with_retry_after(answer.retry_after)
}

fn meaning(status: u16) -> (FailureKind, &'static str) {
    match status {
        // The text may have been taken before the server failed.
        408 | 500.. => (FailureKind::Unknown, "IntelePeer failed"),
        429 => (FailureKind::Throttled, "IntelePeer's rate limit is reached"),
        400 => (FailureKind::Permanent, "IntelePeer cannot read the text or its numbers"),
        401 => (FailureKind::Misconfigured, "IntelePeer refuses the token, or the user does not own the number"),
        403 => (FailureKind::Permanent, "IntelePeer does not carry texts to this destination"),
        404 => (FailureKind::Misconfigured, "the number is not available to this IntelePeer user"),
        300..=399 => (FailureKind::Misconfigured, "IntelePeer's API is somewhere else"),
        _ => (FailureKind::Permanent, "IntelePeer refused the text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_mean_what_is_documented_and_are_otherwise_judged_with_caution() {
        use FailureKind::{Misconfigured, Permanent, Throttled, Unknown};
        let cases = [
            (302, Misconfigured),
            (400, Permanent),
            (401, Misconfigured),
            (403, Permanent),
            (404, Misconfigured),
            (408, Unknown),
            (413, Permanent),
            (429, Throttled),
            (500, Unknown),
            (502, Unknown),
            (503, Unknown),
            (504, Unknown),
            (599, Unknown),
        ];
        for (status, kind) in cases {
            assert_eq!(meaning(status).0, kind, "{status}");
        }
    }
}
