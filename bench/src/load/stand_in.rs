//! The provider's stand-in: it accepts every text at once, answers like Twilio, and reports the time of the call.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::serve::ListenerExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::webhook::ACCOUNT_SID;

/// A callback that gets the receiver's number and the time of the call.
type Taken = Arc<dyn Fn(&str, Instant) + Send + Sync>;

/// A stand-in that listens until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct StandIn {
    _serving: JoinSet<()>,
}

/// Listens on `address` and calls `taken` for each text.
///
/// # Errors
/// When the address is in use.
pub(crate) async fn start(
    address: SocketAddr,
    taken: impl Fn(&str, Instant) + Send + Sync + 'static,
) -> anyhow::Result<StandIn> {
    let listener = TcpListener::bind(address).await?;
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let path = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json");
    let router = Router::new().route(&path, post(take).get(list)).with_state(Arc::new(taken) as Taken);
    let mut serving = JoinSet::new();
    serving.spawn(async move { drop(axum::serve(listener, router).await) });
    Ok(StandIn { _serving: serving })
}

/// <https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource>
async fn take(State(taken): State<Taken>, body: Bytes) -> (StatusCode, Json<Value>) {
    let now = Instant::now();
    let to = form_urlencoded::parse(&body).find(|(name, _)| name == "To").map(|(_, to)| to.into_owned());
    let Some(to) = to else { return (StatusCode::BAD_REQUEST, Json(json!({ "code": 21604, "status": 400 }))) };
    taken(&to, now);
    let message = json!({
        "sid": format!("SM{:032x}", rand::random::<u128>()),
        "account_sid": ACCOUNT_SID,
        "to": to,
        "status": "queued",
        "direction": "outbound-api",
        "num_segments": "1",
        "num_media": "0",
        "api_version": "2010-04-01",
        "date_created": "Thu, 24 Aug 2023 05:01:45 +0000",
    });
    (StatusCode::CREATED, Json(message))
}

/// Always an empty list. The sender asks for the list only after a call broke off, and the run is invalid then.
async fn list() -> Json<Value> {
    Json(json!({ "messages": [], "next_page_uri": null }))
}
