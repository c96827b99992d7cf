//! IBM's error answers.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

/// An error answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    status: StatusCode,
    body: Value,
}

impl Refusal {
    /// 400, with the field that is wrong.
    pub(super) fn invalid(path: &str, message: &str) -> Self {
        let body =
            json!({ "error": "Invalid Request Body", "errors": [{ "message": message, "path": path }], "code": 400 });
        Self { status: StatusCode::BAD_REQUEST, body }
    }

    /// 404 for a session that is unknown or has expired.
    pub(super) fn invalid_session() -> Self {
        Self::plain(StatusCode::NOT_FOUND, "Invalid Session")
    }

    /// A status with a message.
    pub(super) fn plain(status: StatusCode, message: &str) -> Self {
        Self { status, body: json!({ "error": message, "code": status.as_u16() }) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}
