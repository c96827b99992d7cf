//! The assistant's stand-in, a separate process: it opens watsonx sessions at once and takes 300 ms to answer a
//! message.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::StatusCode;
use axum::routing::post;
use axum::serve::IncomingStream;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The time to answer a message, in ms.
pub(crate) const THINKING_MS: u64 = 300;

/// Serves until the process is ended; its address is the first line on standard output.
///
/// # Errors
/// When no port is free.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    let router = Router::new()
        .route("/v2/assistants/{assistant}/sessions", post(open))
        .route("/v2/assistants/{assistant}/sessions/{session}/message", post(answer));
    axum::serve(listener, router.into_make_service_with_connect_info::<Caller>()).await?;
    Ok(())
}

/// A connection, and whether a message has already come over it.
#[derive(Debug, Clone)]
struct Caller(Arc<AtomicBool>);

impl Connected<IncomingStream<'_, TcpListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        // With Nagle's algorithm, a small answer would be held back.
        drop(stream.io().set_nodelay(true));
        Self(Arc::default())
    }
}

/// <https://cloud.ibm.com/apidocs/assistant-v2#createsession>
async fn open() -> (StatusCode, Json<Value>) {
    (StatusCode::CREATED, Json(json!({ "session_id": format!("{:032x}", rand::random::<u128>()) })))
}

/// <https://cloud.ibm.com/apidocs/assistant-v2#message>
///
/// The first answer on each connection comes after a random part of the thinking time. Otherwise the connections that
/// were opened together would stay in step, and a count over some seconds would depend on when it starts.
async fn answer(ConnectInfo(caller): ConnectInfo<Caller>) -> Json<Value> {
    let has_asked = caller.0.swap(true, Ordering::Relaxed);
    let thinking_ms = if has_asked { THINKING_MS } else { rand::random_range(0..THINKING_MS) };
    tokio::time::sleep(Duration::from_millis(thinking_ms)).await;
    let text = "Thank you. Our branches are open Monday to Friday from 9 am to 5 pm.";
    Json(json!({ "output": { "generic": [{ "response_type": "text", "text": text }] } }))
}
