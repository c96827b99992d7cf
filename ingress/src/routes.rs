//! The routes: from HTTP to a [`WebhookRequest`] and back. Every answer either has no body or is a problem detail.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use common::providers::WebhookRequest;
use http_body_util::LengthLimitError;
use tower_http::catch_panic::CatchPanicLayer;

use crate::accept::{FrontDoor, Kind};
use crate::problem::Problem;

/// A webhook body may have this many bytes. Twilio's have at most a few thousand.
const BODY_LIMIT_BYTES: usize = 256 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// All routes of the front door.
pub(crate) fn router(front_door: Arc<FrontDoor>) -> Router {
    Router::new()
        .route("/webhooks/{integration}/messages", any(messages))
        .route("/webhooks/{integration}/status", any(status))
        .fallback(|| async { Problem::NotFound })
        .layer(CatchPanicLayer::custom(|_| Problem::Internal.into_response()))
        .with_state(front_door)
}

async fn messages(
    State(front_door): State<Arc<FrontDoor>>,
    integration: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    answer(&front_door, integration, Kind::Message, &[Method::GET, Method::POST], request).await
}

async fn status(
    State(front_door): State<Arc<FrontDoor>>,
    integration: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    answer(&front_door, integration, Kind::Status, &[Method::GET, Method::POST], request).await
}

async fn answer(
    front_door: &FrontDoor,
    integration: Result<Path<String>, PathRejection>,
    kind: Kind,
    methods: &[Method],
    request: Request,
) -> Response {
    // The path is not even text: no integration can have that name.
    let Ok(Path(integration)) = integration else { return Problem::UnknownIntegration.into_response() };
    if !methods.contains(request.method()) {
        let allowed = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        return ([(header::ALLOW, allowed)], Problem::MethodNotAllowed).into_response();
    }
    let (parts, body) = request.into_parts();
    let accepted = match read_body(body).await {
        Ok(body) => {
            let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
            let request = WebhookRequest { method: &parts.method, target, headers: &parts.headers, body: &body };
            front_door.accept(&integration, kind, &request).await
        }
        Err(problem) => Err(problem),
    };
    accepted.into_response()
}

async fn read_body(body: Body) -> Result<axum::body::Bytes, Problem> {
    if body.size_hint().lower() > BODY_LIMIT_BYTES as u64 {
        return Err(Problem::TooLarge);
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_LIMIT_BYTES)).await;
    read.map_err(|_| Problem::TooSlow)?.map_err(|error| {
        let is_too_large = error.source().is_some_and(|source| source.is::<LengthLimitError>());
        if is_too_large { Problem::TooLarge } else { Problem::BrokenOff }
    })
}
