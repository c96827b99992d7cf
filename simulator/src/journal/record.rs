//! Requests that the simulated services received, and status callbacks that they sent.

use http::{HeaderMap, Method, Uri};
use jiff::Timestamp;
use serde::Serialize;

use super::MessageState;
use crate::route::{Route, Service};

/// The replacement for a credential.
const MASKED: &str = "***";

/// A call that a simulated service received.
#[derive(Clone, Debug, Serialize)]
pub struct RequestRecord {
    /// The time at which the request was complete.
    pub at: Timestamp,
    /// The service that received it.
    pub service: Service,
    /// The call that it was; `None` for a path that the service does not know.
    pub route: Option<Route>,
    /// The HTTP method.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query as it was in the request line.
    pub query: Option<String>,
    /// The headers, with names in lower case; credentials are masked.
    pub headers: Vec<(String, String)>,
    /// The body, unzipped; masked if it contains credentials.
    pub body: String,
    /// The status of the answer; `None` when the connection was dropped instead.
    pub status: Option<u16>,
    /// Whether a fault struck it.
    pub faulted: bool,
}

impl RequestRecord {
    /// The value of a header by its lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a form field, for form-encoded bodies.
    #[must_use]
    pub fn form_field(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.body.as_bytes()).find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
    }
}

/// A request before its answer is known.
#[derive(Debug)]
pub(crate) struct Seen(RequestRecord);

impl Seen {
    pub(crate) fn new(service: Service, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Self {
        let route = Route::of(method, uri.path());
        let holds_credentials = matches!(route, Some(Route::Token | Route::IntelepeerLogin));
        let body = if holds_credentials { MASKED.to_owned() } else { String::from_utf8_lossy(body).into_owned() };
        Self(RequestRecord {
            at: crate::clock::now(),
            service,
            route,
            method: method.to_string(),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            headers: headers.iter().map(|(name, value)| shown(name.as_str(), value.as_bytes())).collect(),
            body,
            status: None,
            faulted: false,
        })
    }

    pub(crate) fn answered(mut self, status: Option<u16>, faulted: bool) -> RequestRecord {
        self.0.status = status;
        self.0.faulted = faulted;
        self.0
    }
}

fn shown(name: &str, value: &[u8]) -> (String, String) {
    let secret = matches!(name, "authorization" | "cookie" | "proxy-authorization");
    let value = if secret { MASKED.to_owned() } else { String::from_utf8_lossy(value).into_owned() };
    (name.to_owned(), value)
}

/// A delivery receipt that was posted to a status callback URL.
#[derive(Clone, Debug, Serialize)]
pub struct Callback {
    /// The time of the answer, or of giving up.
    pub at: Timestamp,
    /// The text's id.
    pub sid: String,
    /// The reported state.
    pub state: MessageState,
    /// The URL to which it was posted.
    pub url: String,
    /// The answer's status; `None` when there was no answer.
    pub status: Option<u16>,
}
