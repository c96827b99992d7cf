//! The effect of a fault on the answer of a call.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::Fault;
use crate::line::Line;
use crate::route::Service;

/// The answer to a call that is refused with `status`, in the words of `service`.
pub(crate) fn refuse(service: Service, status: u16, body: Option<&str>, retry_after_seconds: Option<u64>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = body.map_or_else(|| usual_body(service, status), str::to_owned);
    let mut answer = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Some(seconds) = retry_after_seconds {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

fn usual_body(service: Service, status: StatusCode) -> String {
    let reason = status.canonical_reason().unwrap_or("Error");
    let number = status.as_u16();
    let body = match service {
        Service::Twilio => {
            // Most HTTP statuses have their own Twilio code: 20000 plus the status.
            let code = if status == StatusCode::UNAUTHORIZED { 20_003 } else { 20_000 + u32::from(number) };
            let more_info = format!("https://www.twilio.com/docs/errors/{code}");
            json!({ "code": code, "message": reason, "more_info": more_info, "status": number })
        }
        Service::Intelepeer | Service::Watsonx => json!({ "code": number, "error": reason }),
    };
    body.to_string()
}

/// The answer to an accepted call, changed by `fault`.
pub(crate) async fn after(fault: Fault, answer: Response, line: &Line) -> Response {
    match fault {
        Fault::DelayMs(ms) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            answer
        }
        Fault::DropAfter | Fault::DropBefore | Fault::HangBeforeMs(_) => {
            line.cut();
            answer
        }
        Fault::DripMs(ms) => drip(answer, Duration::from_millis(ms)),
        Fault::WrongJson(body) => with_body(answer, Body::from(body)),
        Fault::Status { .. } => answer,
    }
}

fn with_body(answer: Response, body: Body) -> Response {
    let (mut parts, _) = answer.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, body)
}

fn drip(answer: Response, pause: Duration) -> Response {
    let (mut parts, body) = answer.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let bytes = body.into_data_stream().flat_map(|chunk| {
        let chunk = chunk.unwrap_or_default();
        stream::iter((0..chunk.len()).map(move |at| chunk.slice(at..=at)).collect::<Vec<Bytes>>())
    });
    let slow = bytes.then(move |byte| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, std::convert::Infallible>(byte)
    });
    Response::from_parts(parts, Body::from_stream(slow))
}
