//! A provider's HTTP answer, read within bounds before it is classified.

use std::time::Duration;

use ::http::StatusCode;
use ::http::header::DATE;
use message::clock::Timestamp;
use message::failure::Failure;
use serde::de::DeserializeOwned;

use crate::http_client;

/// The longest body that is read, 4 MiB: no answer that we ask for is longer. A longer body counts as unreadable.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// An answer whose status arrived.
#[derive(Debug)]
pub(super) struct Answer {
    /// The status.
    pub(super) status: StatusCode,
    /// How long the provider asks us to wait, if it does.
    pub(super) retry_after: Option<Duration>,
    /// When the answer was made, by the provider's clock.
    pub(super) date: Option<Timestamp>,
    /// The body; `None` when it broke off or was too long.
    body: Option<Vec<u8>>,
}

impl Answer {
    /// Makes the call and reads its answer.
    ///
    /// # Errors
    /// When no status arrived: see [`http_client::classify`].
    pub(super) async fn to(request: reqwest::RequestBuilder) -> Result<Self, Failure> {
        let mut response = request.send().await.map_err(http_client::classify)?;
        let (status, retry_after) = (response.status(), http_client::retry_after(response.headers()));
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(moment);
        let mut body = Some(Vec::new());
        // The status alone decides about refusals, so a body that breaks off is no failure yet.
        while let Some(bytes) = &mut body {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() <= MAX_BYTES => bytes.extend_from_slice(&chunk),
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => body = None,
            }
        }
        Ok(Self { status, retry_after, date, body })
    }

    /// The body as JSON of the shape `T`; `None` when it is not.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(self.body.as_deref()?).ok()
    }
}

/// Reads a date in the form of RFC 2822, which HTTP uses too.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp())
}
