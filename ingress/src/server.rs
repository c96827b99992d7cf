//! The HTTP server: bounded in connections, bytes and time, and with a graceful end. `axum::serve` bounds none of them,
//! so slow clients could hold it open without end.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use message::shutdown::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::connections::{Connection, Connections, GivesWay, Limits};
use crate::routes::Accepted;
use crate::stream::ClientStream;

/// The bounds for all clients together. A connection costs some 20 KiB itself and 12 KiB more while its request arrives
/// (measured), so that together with the bytes it stays well below 100 MiB.
const LIMITS: Limits = Limits { connections: 1024, bytes: 16 << 20 };
/// How many bytes a request's headers may have, roughly: hyper checks after each read. Twilio's longest are those of a
/// GET, some 20 KiB.
const HEADER_LIMIT_BYTES: usize = 64 * 1024;
/// How long a request's headers may take, which is also how long an idle connection is kept, 75 s. Usual load balancers
/// keep theirs for a minute, so they close it first, and no request meets a closed connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// The pause after a failure to accept (no file descriptors left), 10 ms: connections that give way need a moment to
/// close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// How often such failures are logged at most, once a minute.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Serves `router` on `listener` until `shutdown`, then lets requests in flight finish within the grace period.
pub(crate) async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) {
    let connections = Connections::new(LIMITS);
    let graceful = GracefulShutdown::new();
    let mut warned_at = None;
    loop {
        let next = async {
            let (stream, _) = listener.accept().await?;
            Ok((stream, connections.open().await))
        };
        let accepted = tokio::select! {
            () = shutdown.started() => break,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, opened)) => serve_connection(stream, opened, router.clone(), &graceful),
            Err(error) => {
                warn_now_and_then(&error, &mut warned_at);
                connections.make_room();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    info!("stops accepting webhooks");
    if tokio::time::timeout(shutdown.grace(), graceful.shutdown()).await.is_err() {
        warn!("webhook requests were still in flight at the end of the grace period");
    }
}

fn warn_now_and_then(error: &io::Error, warned_at: &mut Option<Instant>) {
    if warned_at.is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
        *warned_at = Some(Instant::now());
        warn!(%error, "cannot accept a connection: others are closed for it");
    }
}

fn serve_connection(
    stream: TcpStream,
    (connection, gives_way): (Arc<Connection>, GivesWay),
    router: Router,
    graceful: &GracefulShutdown,
) {
    // Answers are one small packet each: waiting to fill it would only add delay.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot switch off Nagle's algorithm");
    }
    let stream = TokioIo::new(ClientStream::new(stream, Arc::clone(&connection)));
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request| answer(router.clone(), Arc::clone(&connection), request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_LIMIT_BYTES)
        .serve_connection(stream, service);
    let served = graceful.watch(served);
    tokio::spawn(async move {
        tokio::select! {
            ended = served => if let Err(error) = ended {
                debug!(%error, "a webhook connection ended early");
            },
            _ = gives_way => debug!("a webhook connection gave way to another one"),
        }
    });
}

/// Answers a request. Only an accepted webhook keeps its connection open: any other client gets one answer, however
/// much it has sent.
async fn answer(
    router: TowerToHyperService<Router>,
    connection: Arc<Connection>,
    mut request: hyper::Request<Incoming>,
) -> Result<axum::response::Response, Infallible> {
    request.extensions_mut().insert(Arc::clone(&connection));
    let mut response = router.call(request).await?;
    let is_accepted = response.extensions().get::<Accepted>().is_some();
    if !is_accepted {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    connection.answers(is_accepted, Instant::now());
    Ok(response)
}
