//! The one place where the simulator reads the wall clock; its dates are only shown, nothing is decided by them.

use jiff::Timestamp;

/// Now, as the machine's clock has it.
#[expect(clippy::disallowed_methods, reason = "the simulator is a stand-in for services with clocks of their own")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// `Thu, 24 Aug 2023 05:01:45 +0000`, as Twilio writes dates.
pub(crate) fn rfc2822(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}
