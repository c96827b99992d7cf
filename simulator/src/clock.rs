//! The one place where the simulator reads the wall clock. Its dates are only shown; no decision depends on them.

use jiff::Timestamp;

/// The time of the machine's clock.
#[expect(clippy::disallowed_methods, reason = "the simulator is a stand-in for services with clocks of their own")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// The date as Twilio writes it: `Thu, 24 Aug 2023 05:01:45 +0000`.
pub(crate) fn rfc2822(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}
