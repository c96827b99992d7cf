//! What Twilio's refusals mean. A code that is not listed here is classified by the HTTP status and kept unchanged.
//! <https://www.twilio.com/docs/api/errors>

use std::time::Duration;

use message::failure::{FailureKind, Scope};
#[cfg(feature = "send")]
use {crate::answer::Answer, message::failure::Failure, serde::Deserialize};

/// Throttles: their codes, their scope, how long to wait at least, and a description. A throttle without a wait of its
/// own starts with a short one, which doubles while the throttle goes on.
#[rustfmt::skip]
const THROTTLES: &[(&[u32], Scope, Option<Duration>, &str)] = &[
    (&[20429], Scope::Account, None, "Twilio's rate limit is reached"),
    // A daily quota, of the account or of our number at a carrier, is tried again every hour.
    (&[63038], Scope::Account, Some(HOUR), "the account's limit for the day is reached"),
    (&[30023, 30027], Scope::Number, Some(HOUR), "the carrier's limit for the day is reached"),
    // A queue of ten hours is full: a short wait would change nothing.
    (&[21611, 30001], Scope::Number, Some(Duration::from_secs(5 * 60)), "the number's queue at Twilio is full"),
    (&[30022, 63017, 63018], Scope::Number, Some(MINUTE), "the number sends faster than it may"),
    (&[30017], Scope::Pair, Some(MINUTE), "the customer's carrier is congested"),
    // More than 15 replies in 30 s.
    (&[14107], Scope::Pair, Some(Duration::from_secs(30)), "the two numbers text each other too often"),
];
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// All other codes, their kinds and descriptions.
#[rustfmt::skip]
const CODES: &[(&[u32], FailureKind, &str)] = &[
    (&[21610], FailureKind::OptedOut, "the customer opted out"),
    (&[21211, 21214, 21217, 21266, 21604, 21612, 21614, 21635, 30004, 30005, 30006], FailureKind::Permanent,
        "the customer's number cannot be texted"),
    (&[11751, 21602, 21617, 21618, 21619, 21620, 21623, 21654, 21655, 21656, 30007, 30019], FailureKind::Permanent,
        "Twilio does not carry this text or its media"),
    (&[20003, 20403, 20404], FailureKind::Misconfigured, "Twilio refuses the account or its credentials"),
    (&[20005, 30002], FailureKind::Misconfigured, "the Twilio account is not active"),
    (&[21408, 21421, 21608, 21609, 21621, 21622, 21701, 63007, 63016], FailureKind::Misconfigured,
        "the Twilio account is not set up for this text"),
    (&[21212, 21601, 21603, 21606, 21616, 21657], FailureKind::Misconfigured, "Twilio cannot send from this number"),
    (&[30018, 30024, 30032, 30033, 30034, 30035], FailureKind::Misconfigured, "the number's registration is incomplete"),
];

/// Codes that occur only in receipts: the phone was off, or the carrier could not say why. The same text may arrive
/// later.
const UNREACHED: [u32; 5] = [30003, 30008, 30036, 30410, 30450];

/// What the code of a receipt means, in a word that may become a label; `None` for a code that is not listed.
pub(in super::super) fn class(code: &str) -> Option<&'static str> {
    let code = code.parse().ok()?;
    if UNREACHED.contains(&code) {
        return Some(FailureKind::Transient.as_str());
    }
    if THROTTLES.iter().any(|(codes, ..)| codes.contains(&code)) {
        return Some(FailureKind::Throttled.as_str());
    }
    CODES.iter().find(|(codes, ..)| codes.contains(&code)).map(|(_, kind, _)| kind.as_str())
}

/// Classifies an answer other than success.
#[cfg(feature = "send")]
pub(super) fn of_answer(answer: &Answer) -> Failure {
    #[derive(Deserialize)]
    struct Error {
        code: Option<u32>,
    }
    let code = answer.json::<Error>().and_then(|error| error.code);
    of_refusal(answer.status.as_u16(), code, answer.retry_after)
}

#[cfg(feature = "send")]
fn of_refusal(status: u16, code: Option<u32>, hint: Option<Duration>) -> Failure {
    let is_listed = |codes: &[u32]| code.is_some_and(|code| codes.contains(&code));
    let throttle = THROTTLES.iter().find(|(codes, ..)| is_listed(codes));
    let listed = CODES.iter().find(|(codes, ..)| is_listed(codes)).map(|&(_, kind, what)| (kind, what));
    let throttled = throttle.map(|&(.., what)| (FailureKind::Throttled, what));
    let (kind, what) = match (status, throttled.or(listed)) {
        // The text may have been taken before the server failed.
        (500.., _) | (408, _) => (FailureKind::Unknown, "Twilio failed"),
        (_, Some(meaning)) => meaning,
        (429, None) => (FailureKind::Throttled, "Twilio's rate limit is reached"),
        (401 | 403, None) => (FailureKind::Misconfigured, "Twilio refuses the credentials"),
        (404, None) => (FailureKind::Misconfigured, "Twilio knows no such account"),
        (300..=399, None) => (FailureKind::Misconfigured, "Twilio's API is somewhere else"),
        _ => (FailureKind::Permanent, "Twilio refused the text"),
    };
    let (scope, wait) = throttle.map_or((Scope::Account, None), |&(_, scope, wait, _)| (scope, wait));
    let code = code.map_or_else(|| status.to_string(), |code| code.to_string());
    Failure::new(kind, what).with_code(code).with_scope(scope).with_retry_after(hint.max(wait))
}

#[cfg(all(test, feature = "send"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refusals_mean_what_twilio_documents() {
        use FailureKind::{Misconfigured, OptedOut, Permanent, Throttled, Unknown};
        let cases = [
            (400, Some(21211), Permanent, "21211"),
            (400, Some(21610), OptedOut, "21610"),
            (400, Some(21617), Permanent, "21617"),
            (400, Some(21606), Misconfigured, "21606"),
            (400, Some(21408), Misconfigured, "21408"),
            (400, Some(21611), Throttled, "21611"),
            (400, Some(30022), Throttled, "30022"),
            (429, Some(20429), Throttled, "20429"),
            (429, None, Throttled, "429"),
            (401, Some(20003), Misconfigured, "20003"),
            (401, None, Misconfigured, "401"),
            (403, None, Misconfigured, "403"),
            (404, Some(20404), Misconfigured, "20404"),
            (404, None, Misconfigured, "404"),
            (302, None, Misconfigured, "302"),
            (400, Some(99999), Permanent, "99999"),
            (400, None, Permanent, "400"),
            (500, Some(20500), Unknown, "20500"),
            (503, Some(21211), Unknown, "21211"),
            (502, None, Unknown, "502"),
            (504, None, Unknown, "504"),
        ];
        for (status, code, kind, kept) in cases {
            let failure = of_refusal(status, code, None);
            assert_eq!((failure.kind, failure.code.as_deref()), (kind, Some(kept)), "{status} {code:?}");
        }
    }

    #[test]
    fn waiting_is_as_long_as_the_longer_of_hint_and_code_asks() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(of_refusal(429, Some(20429), seconds(7)).retry_after, seconds(7));
        assert_eq!(of_refusal(400, Some(21611), seconds(7)).retry_after, seconds(300));
        assert_eq!(of_refusal(400, Some(30022), seconds(90)).retry_after, seconds(90));
        assert_eq!(of_refusal(400, Some(30027), None).retry_after, seconds(3600));
        assert_eq!(of_refusal(429, None, None).retry_after, None);
    }

    #[test]
    fn t5_a_throttle_says_whom_it_concerns_and_for_how_long() {
        let cases = [
            (400, Some(14107), Scope::Pair, Some(30)),
            (400, Some(30017), Scope::Pair, Some(60)),
            (400, Some(30022), Scope::Number, Some(60)),
            (400, Some(63018), Scope::Number, Some(60)),
            (400, Some(21611), Scope::Number, Some(300)),
            (400, Some(30001), Scope::Number, Some(300)),
            (400, Some(30023), Scope::Number, Some(3600)),
            (429, Some(63038), Scope::Account, Some(3600)),
            (400, Some(63038), Scope::Account, Some(3600)),
            (429, Some(20429), Scope::Account, None),
            (429, None, Scope::Account, None),
            (429, Some(99999), Scope::Account, None),
        ];
        for (status, code, scope, wait_s) in cases {
            let failure = of_refusal(status, code, None);
            assert_eq!((failure.kind, failure.scope), (FailureKind::Throttled, scope), "{status} {code:?}");
            assert_eq!(failure.retry_after.map(|wait| wait.as_secs()), wait_s, "{status} {code:?}");
        }
    }

    #[test]
    fn no_code_is_listed_twice() {
        let throttles = THROTTLES.iter().flat_map(|(codes, ..)| *codes);
        let all: Vec<_> = CODES.iter().flat_map(|(codes, ..)| *codes).chain(throttles).collect();
        let once: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(once.len(), all.len());
    }

    proptest! {
        #[test]
        fn no_server_error_is_ever_taken_for_certain(status in 500_u16..600, code in proptest::option::of(any::<u32>())) {
            prop_assert_eq!(of_refusal(status, code, None).kind, FailureKind::Unknown);
        }
    }
}
