//! The HTTP server: a bounded number of connections, headers that must arrive in time, and a graceful end.
//! `axum::serve` has neither bound, so slow clients could hold it open for ever.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use common::shutdown::Shutdown;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, info, warn};

/// How many connections are served at a time; more wait in the kernel's queue.
const CONNECTION_LIMIT: usize = 2048;
/// How long a request's headers may be, roughly: hyper looks after each read. A connection keeps what it has read of
/// them, so this times the number of connections is what hostile clients can make us hold. Twilio's longest are those
/// of a GET, some 20 KiB.
const HEADER_LIMIT_BYTES: usize = 64 * 1024;
/// How long a request's headers may take, which is also how long an idle connection is kept: longer than the minute for
/// which usual load balancers keep theirs, so that it is they who close it and no request meets a closed connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// After a failure to accept (no file descriptors left), how long until the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until `shutdown`, then lets requests in flight finish within the grace period.
pub(crate) async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) {
    let permits = Arc::new(Semaphore::new(CONNECTION_LIMIT));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = shutdown.started() => break,
            next = next => next,
        };
        match (permit, accepted) {
            (Ok(permit), Ok((stream, _))) => serve_connection(stream, permit, router.clone(), &graceful),
            (_, Err(error)) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (Err(_), Ok(_)) => break,
        }
    }
    drop(listener);
    info!("stops accepting webhooks");
    if tokio::time::timeout(shutdown.grace(), graceful.shutdown()).await.is_err() {
        warn!("webhook requests were still in flight at the end of the grace period");
    }
}

fn serve_connection(stream: TcpStream, permit: OwnedSemaphorePermit, router: Router, graceful: &GracefulShutdown) {
    // Answers are one small packet each: waiting to fill it would only add delay.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot switch off Nagle's algorithm");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_LIMIT_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "a webhook connection ended early");
        }
        drop(permit);
    });
}
