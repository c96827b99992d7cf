//! The layer that every call to a simulated service passes. It unzips the body, applies faults, and records the call.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::faults::{self, Fault};
use crate::journal::Seen;
use crate::line::Line;
use crate::route::{Route, Service};
use crate::world::{World, fresh_hex};

/// The largest request body, packed or unpacked, in bytes.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// Handles a call of a simulated service with `serve`. Other paths pass unchanged.
pub(crate) async fn pass(
    State(world): State<Arc<World>>,
    ConnectInfo(line): ConnectInfo<Line>,
    request: Request,
    next: Next,
) -> Response {
    let Some(service) = Service::of(request.uri().path()) else { return next.run(request).await };
    let mut answer = serve(&world, &line, service, request, next).await;
    if let (Service::Watsonx, Ok(id)) = (service, HeaderValue::from_str(&fresh_hex())) {
        // IBM's support finds a call by this id. Failed calls have one, too.
        answer.headers_mut().insert(HeaderName::from_static("x-global-transaction-id"), id);
    }
    answer
}

/// Records the call and applies at most one fault to it.
async fn serve(world: &World, line: &Line, service: Service, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(body) = whole_body(service, &mut parts.headers, body).await else {
        return faults::refuse(service, StatusCode::BAD_REQUEST.as_u16(), None, None);
    };
    let seen = Seen::new(service, &parts.method, &parts.uri, &parts.headers, &body);
    let fault = Route::of(&parts.method, parts.uri.path()).and_then(|route| world.faults.strike(route));
    match fault {
        Some(fault @ (Fault::DropBefore | Fault::HangBeforeMs(_))) => {
            if let Fault::HangBeforeMs(ms) = fault {
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            world.journal.add_request(seen.answered(None, true));
            line.cut();
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Some(Fault::Status { status, body, retry_after_seconds }) => {
            world.journal.add_request(seen.answered(Some(status), true));
            faults::refuse(service, status, body.as_deref(), retry_after_seconds)
        }
        fault => {
            let answer = next.run(Request::from_parts(parts, Body::from(body))).await;
            let status = (fault != Some(Fault::DropAfter)).then(|| answer.status().as_u16());
            world.journal.add_request(seen.answered(status, fault.is_some()));
            match fault {
                Some(fault) => faults::after(fault, answer, line).await,
                None => answer,
            }
        }
    }
}

/// The body, unzipped if the service accepts zipped bodies; `None` when it is unreadable or too large.
async fn whole_body(service: Service, headers: &mut HeaderMap, body: Body) -> Option<Bytes> {
    let body = to_bytes(body, MAX_BODY).await.ok()?;
    let zipped = headers.get(header::CONTENT_ENCODING).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"gzip"));
    if service != Service::Watsonx || !zipped {
        return Some(body);
    }
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    let mut unzipped = Vec::new();
    let limit = u64::try_from(MAX_BODY).ok()?;
    flate2::read::GzDecoder::new(body.as_ref()).take(limit).read_to_end(&mut unzipped).ok()?;
    Some(unzipped.into())
}
