//! One HTTP call to a location, and the calls that follow one that failed for a temporary reason.

use std::time::Duration;

use integration::WatsonxLocation;
use message::failure::{Failure, FailureKind};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde_json::Value;
use tokio::time::Instant;

use super::auth::{Credentials, Proof};
use super::refusal;
use crate::assistant::Attempts;

/// The longest answer that is read, 2 MiB: a context may have 100 KB, and there are at most five responses of each
/// node.
const MAX_ANSWER_BYTES: usize = 2 * 1024 * 1024;
/// A location that asks us to wait longer than this, 30 s, counts as unreachable for the turn.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// How long and how often to try.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// How long one call may take.
    pub(super) timeout: Duration,
    /// How many more calls follow one that failed for a temporary reason.
    pub(super) retries: u32,
    /// How long to wait between them; the location's `Retry-After` is a floor.
    pub(super) interval: Duration,
}

/// The v2 API at one location.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    version: String,
    credentials: Credentials,
}

impl Client {
    /// A client for `location`.
    ///
    /// # Errors
    /// When its URL is invalid.
    pub(super) fn new(location: &WatsonxLocation, http: reqwest::Client) -> Result<Self, Failure> {
        let base = Url::parse(&location.url)
            .map_err(|e| Failure::misconfigured("the assistant's url is not a URL").caused_by(e))?;
        if base.cannot_be_a_base() {
            return Err(Failure::misconfigured("the assistant's url has no host"));
        }
        let credentials = Credentials::new(location.auth.clone());
        Ok(Self { http, base, version: location.version.clone(), credentials })
    }

    /// Posts `body` to `path` and returns the answer's JSON, trying again as `patience` allows.
    ///
    /// # Errors
    /// The last failure; each is also added to `attempts`.
    pub(super) async fn post(
        &self,
        path: &[&str],
        body: &Value,
        patience: Patience,
        attempts: &Attempts,
    ) -> Result<Value, Failure> {
        let mut left = patience.retries;
        loop {
            let failure = match self.post_once(path, body, patience.timeout).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            attempts.record(&failure);
            let hint = failure.retry_after.unwrap_or_default();
            if left == 0 || !failure.kind.is_retryable() || hint > MAX_RETRY_AFTER {
                return Err(failure);
            }
            left -= 1;
            tokio::time::sleep(patience.interval.max(hint)).await;
        }
    }

    async fn post_once(&self, path: &[&str], body: &Value, timeout: Duration) -> Result<Value, Failure> {
        let started = Instant::now();
        let answer = self.post_signed(path, body, timeout).await;
        let outcome = answer.as_ref().map_or_else(|failure| failure.kind.as_str(), |_| "ok");
        metrics::histogram!("switchboard_assistant_call_seconds", "assistant" => "watsonx", "outcome" => outcome)
            .record(started.elapsed());
        serde_json::from_slice(&answer?).map_err(|_| Failure::unknown("the assistant's answer is not JSON"))
    }

    /// Signs and sends; a proof that is refused is renewed once.
    async fn post_signed(&self, path: &[&str], body: &Value, timeout: Duration) -> Result<Vec<u8>, Failure> {
        let mut refused: Option<Proof> = None;
        loop {
            let (is_first, began) = (refused.is_none(), Instant::now());
            let request = self.http.post(self.url(path)).timeout(timeout).json(body);
            let request = request.header(reqwest::header::ACCEPT, "application/json");
            let (request, proof) = self.credentials.sign(&self.http, request, refused).await?;
            match send(request).await {
                Err(failure)
                    if is_first
                        && is_status(&failure, StatusCode::UNAUTHORIZED)
                        && self.credentials.can_renew(began).await =>
                {
                    refused = Some(proof);
                }
                sent => return sent,
            }
        }
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        // Only URLs without a host have no segments, and they were refused at start.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v2").extend(path);
        }
        url.query_pairs_mut().append_pair("version", &self.version);
        url
    }
}

/// Whether `failure` is an answer with `status`.
pub(super) fn is_status(failure: &Failure, status: StatusCode) -> bool {
    failure.code.as_deref() == Some(status.as_str())
}

/// Sends `request` and returns the body of a success.
///
/// # Errors
/// Classified: see [`refusal::failure`].
pub(super) async fn send(request: RequestBuilder) -> Result<Vec<u8>, Failure> {
    let mut response = request.send().await.map_err(providers::http_client::classify)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(providers::http_client::classify)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::new(FailureKind::Unknown, "the assistant's answer is too long"));
        }
        body.extend_from_slice(&chunk);
    }
    if response.status().is_success() {
        return Ok(body);
    }
    Err(refusal::failure(response.status(), response.headers(), &body))
}
