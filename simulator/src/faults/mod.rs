//! Faults on demand: their kinds, how often they strike, and the plans that wait for a request.

mod apply;
mod plan;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use apply::{after, refuse};
pub use plan::FaultPlan;
pub(crate) use plan::Faults;

/// A failure of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The call is refused with this status; nothing is accepted. Without a body the service's usual one is sent.
    Status {
        /// The HTTP status.
        status: u16,
        /// The body, sent as JSON.
        #[serde(default)]
        body: Option<String>,
        /// The `Retry-After` header in seconds.
        #[serde(default)]
        retry_after_seconds: Option<u64>,
    },
    /// The call is accepted at once; its answer comes this many milliseconds late.
    DelayMs(u64),
    /// The connection closes without an answer; nothing is accepted.
    DropBefore,
    /// The connection closes without an answer after this many milliseconds; nothing is accepted.
    HangBeforeMs(u64),
    /// The call is accepted, then the connection closes without an answer.
    DropAfter,
    /// The call is accepted; its answer trickles in, a byte after each pause of this many milliseconds.
    DripMs(u64),
    /// The call is accepted and answered with the right status, but with this body instead of its JSON.
    WrongJson(String),
}

impl Fault {
    /// A refusal with `status` and the usual body of the service.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status { status, body: None, retry_after_seconds: None }
    }

    /// A refusal with `status` and a `Retry-After` header.
    #[must_use]
    pub fn retry_after(status: u16, seconds: u64) -> Self {
        Self::Status { status, body: None, retry_after_seconds: Some(seconds) }
    }

    /// A refusal with `status` and this JSON body.
    #[must_use]
    pub fn status_with_body(status: u16, body: impl Into<String>) -> Self {
        Self::Status { status, body: Some(body.into()), retry_after_seconds: None }
    }

    /// The call is accepted, but the answer comes late.
    #[must_use]
    pub fn delay(by: Duration) -> Self {
        Self::DelayMs(u64::try_from(by.as_millis()).unwrap_or(u64::MAX))
    }

    /// The call is accepted, but the answer's JSON is cut off.
    #[must_use]
    pub fn wrong_json() -> Self {
        Self::WrongJson("{\"unfinished\": [".to_owned())
    }

    /// Strikes the next `count` requests.
    #[must_use]
    pub fn times(self, count: u32) -> FaultPlan {
        FaultPlan { fault: self, times: Some(count), chance: None }
    }

    /// Strikes every request until the faults are cleared.
    #[must_use]
    pub fn always(self) -> FaultPlan {
        FaultPlan { fault: self, times: None, chance: None }
    }

    /// Strikes each request with this probability (0 to 1) until the faults are cleared.
    #[must_use]
    pub fn with_chance(self, chance: f64) -> FaultPlan {
        FaultPlan { fault: self, times: None, chance: Some(chance) }
    }
}
