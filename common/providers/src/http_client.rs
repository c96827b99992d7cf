//! HTTP clients with timeouts and without redirects, and the first classification of a failed call.

use std::time::Duration;

use ::http::HeaderMap;
use message::failure::{Failure, FailureKind};
use reqwest::redirect::Policy;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Shorter than the idle timeout of usual load balancers, so that we close idle connections first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A client for one upstream whose calls end after `timeout`. It follows no redirects and retries nothing by itself:
/// whether a call may be repeated is the caller's decision.
///
/// # Errors
/// When the machine's TLS roots cannot be used.
pub fn client(timeout: Duration) -> Result<reqwest::Client, Failure> {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .user_agent(concat!("switchboard/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| Failure::misconfigured("cannot set up TLS for an HTTP client").caused_by(e.without_url()))
}

/// Classifies a call without an HTTP answer: [`FailureKind::Transient`] if the request was certainly not sent, else
/// [`FailureKind::Unknown`].
#[must_use]
pub fn classify(error: reqwest::Error) -> Failure {
    let kind = if error.is_connect() || error.is_builder() { FailureKind::Transient } else { FailureKind::Unknown };
    let what = match (error.is_timeout(), error.is_connect()) {
        (_, true) => "cannot connect",
        (true, false) => "no answer in time",
        (false, false) => "the connection broke before the answer was complete",
    };
    // URLs may hold numbers and account names.
    Failure::new(kind, what).caused_by(error.without_url())
}

/// Returns the server's `Retry-After`, read as seconds. Its date form is rare with APIs and ignored.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(::http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
