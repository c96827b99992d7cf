//! The routes: from HTTP to a [`WebhookRequest`] and back. Every answer either has no body or is a problem detail.
//! What can be refused without the body is refused before it is read.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use providers::WebhookRequest;
use tower_http::catch_panic::CatchPanicLayer;

use crate::accept::FrontDoor;
use crate::body;
use crate::connections::Connection;
use crate::problem::Problem;

/// What a request reports, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Message,
    Status,
    /// Nothing: there is no such path.
    Unknown,
}

impl Kind {
    /// Its name in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Status => "status",
            Self::Unknown => "unknown",
        }
    }
}

const HEALTH_METHODS: Problem = Problem::MethodNotAllowed { allowed: "GET, HEAD" };

/// Marks the answer to a webhook that was accepted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted;

/// All routes of the front door.
pub(crate) fn router(front_door: Arc<FrontDoor>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { StatusCode::NO_CONTENT }).fallback(|| async { HEALTH_METHODS }))
        .fallback(webhook)
        .layer(CatchPanicLayer::custom(|_| Problem::Internal.into_response()))
        .with_state(front_door)
}

async fn webhook(State(front_door): State<Arc<FrontDoor>>, request: Request) -> Response {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let routed = front_door.targets(&target).filter_map(routed);
    let Some((target, id, kind)) = routed.min_by_key(|(_, _, kind)| *kind == Kind::Unknown) else {
        return Problem::NotFound.into_response();
    };
    let accepted = accept(&front_door, target, id, kind, request).await;
    front_door.note(id, kind, &accepted);
    match accepted {
        Ok(status) => {
            let mut response = status.into_response();
            response.extensions_mut().insert(Accepted);
            response
        }
        Err(problem) => problem.into_response(),
    }
}

/// The integration that a target below `/webhooks` names, and the kind. A slash at the end of the path changes nothing.
fn routed(target: &str) -> Option<(&str, &str, Kind)> {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let below = path.strip_prefix("/webhooks").filter(|below| below.is_empty() || below.starts_with('/'))?;
    let below = below.strip_prefix('/').unwrap_or(below);
    let (id, rest) = below.split_once('/').unwrap_or((below, ""));
    let kind = match rest.strip_suffix('/').unwrap_or(rest) {
        "messages" => Kind::Message,
        "status" => Kind::Status,
        _ => Kind::Unknown,
    };
    Some((target, id, kind))
}

async fn accept(
    front_door: &FrontDoor,
    target: &str,
    id: &str,
    kind: Kind,
    request: Request,
) -> Result<StatusCode, Problem> {
    let (parts, body) = request.into_parts();
    let door = front_door.door(id)?;
    match (kind, &parts.method) {
        (Kind::Unknown, _) => return Err(Problem::NotFound),
        (_, &Method::GET | &Method::POST) => {}
        _ => return Err(Problem::MethodNotAllowed { allowed: "GET, POST" }),
    }
    body::check_length(&body)?;
    door.check_head(&parts.headers)?;
    let connection = parts.extensions.get::<Arc<Connection>>().map(AsRef::as_ref);
    let body = body::read(body, connection).await?;
    if let Some(connection) = connection {
        connection.is_ours();
    }
    let request = WebhookRequest { method: &parts.method, target, headers: &parts.headers, body: &body };
    front_door.accept(door, kind, &request).await
}
