//! Errors as JSON problem details (RFC 9457). Never `text/plain`: Twilio would text such a body to the customer
//! (<https://www.twilio.com/docs/messaging/twiml#twilios-request-to-your-application>).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use message::Address;
use providers::Refusal;
use serde_json::json;

/// Why a request is not accepted. The details name no secret, no peer and nothing of the request
/// but a masked number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("the body broke off")]
    BrokenOff,
    #[error("{0}")]
    Forbidden(&'static str),
    #[error(
        "the number that was texted, {0}, is not one of this integration's: add it to `numbers`, or point its webhook elsewhere"
    )]
    ForeignNumber(Address),
    #[error("there is nothing at this path")]
    NotFound,
    #[error("no integration has this id")]
    UnknownIntegration,
    #[error("this path does not take this method")]
    MethodNotAllowed {
        /// The methods that it takes.
        allowed: &'static str,
    },
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the body is larger than 64 KiB")]
    TooLarge,
    #[error("the message could not be stored; send it again")]
    NotDurable,
    #[error("something went wrong on our side")]
    Internal,
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Self::BrokenOff => StatusCode::BAD_REQUEST,
            Self::Forbidden(_) | Self::ForeignNumber(_) => StatusCode::FORBIDDEN,
            Self::NotFound | Self::UnknownIntegration => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotDurable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The problem's name in metrics and logs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::BrokenOff => "broken_off",
            Self::Forbidden(_) => "forbidden",
            Self::ForeignNumber(_) => "foreign_number",
            Self::NotFound => "not_found",
            Self::UnknownIntegration => "unknown_integration",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::TooSlow => "too_slow",
            Self::TooLarge => "too_large",
            Self::NotDurable => "not_durable",
            Self::Internal => "internal",
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unproven(why) => Self::Forbidden(why),
            // A proven request is kept, readable or not, and never gets here: only the proof can be unreadable.
            Refusal::Unreadable(_) => Self::Forbidden("the proof cannot be read"),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": self.to_string(),
        });
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self {
            Self::NotDurable => drop(headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"))),
            Self::MethodNotAllowed { allowed } => {
                drop(headers.insert(header::ALLOW, HeaderValue::from_static(allowed)));
            }
            _ => {}
        }
        response
    }
}
