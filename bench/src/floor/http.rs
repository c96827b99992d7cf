//! The HTTP floor: an axum handler that reads the body and answers 204.

use std::net::Ipv4Addr;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

/// Serves until the process is ended; its address is the first line on standard output.
///
/// # Errors
/// When no port is free.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    // As in Switchboard. With Nagle's algorithm, small answers would be held back.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let router = Router::new().route("/webhooks/{integration}/messages", post(read));
    axum::serve(listener, router).await?;
    Ok(())
}

async fn read(body: Bytes) -> StatusCode {
    if body.is_empty() { StatusCode::BAD_REQUEST } else { StatusCode::NO_CONTENT }
}
