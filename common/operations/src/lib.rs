//! The private listener for liveness, readiness and metrics. Meant for orchestrators, load balancers and Prometheus,
//! never for the internet.

pub mod logs;

mod gauges;
mod health;

use std::sync::OnceLock;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use message::shutdown::Shutdown;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tracing::warn;

pub use health::Health;

use gauges::Gauges;
use health::{Checked, Role};

/// How long a check may take before it counts as failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// How often histograms are drained, which must happen even when no scraper comes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Upper bounds of the buckets of every latency, in seconds: they cover all answers of a provider or an assistant, up
/// to the longest timeout.
const LATENCY_BUCKETS_S: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// The process's metrics recorder, installed when first asked for; `None` if something else installed one.
#[must_use]
pub fn metrics_recorder() -> Option<PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || PrometheusBuilder::new().set_buckets(&LATENCY_BUCKETS_S).ok()?.install_recorder().ok();
    RECORDER.get_or_init(install).clone()
}

/// Serves `/health/live`, `/health/ready`, `/health/ready/{role}` and `/metrics` on `listener` until `shutdown`;
/// requests in flight then get as long as a check may take.
pub async fn serve(listener: TcpListener, health: Health, shutdown: Shutdown) {
    let recorder = metrics_recorder();
    let router = Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/ready/{role}", get(role_ready))
        .route("/metrics", get(metrics))
        .fallback(|| async { not_found("there is nothing at this path") })
        .with_state((health, recorder.clone()));
    let upkeep = tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            if let Some(recorder) = &recorder {
                recorder.run_upkeep();
            }
        }
    });
    let started = shutdown.clone();
    let served = axum::serve(listener, router).with_graceful_shutdown(async move { started.started().await });
    // A graceful shutdown waits for every request that has begun, also for one that never ends.
    let cut_off = async {
        shutdown.started().await;
        tokio::time::sleep(CHECK_TIMEOUT).await;
    };
    tokio::select! {
        ended = served.into_future() => if let Err(error) = ended {
            warn!(%error, "the operations listener ended");
        },
        () = cut_off => {}
    }
    upkeep.abort();
}

type Operations = (Health, Option<PrometheusHandle>);

async fn live(State((health, _)): State<Operations>) -> Response {
    let dead = health.dead_stages();
    if dead.is_empty() {
        return Json(json!({ "status": "alive" })).into_response();
    }
    let dead: Map<String, Value> = dead.into_iter().map(|(stage, word)| (stage.to_owned(), word.into())).collect();
    problem(StatusCode::SERVICE_UNAVAILABLE, "a stage is stuck", json!({ "checks": dead }))
}

async fn ready(State((health, _)): State<Operations>) -> Response {
    let checked = health.check().await;
    readiness(&checked, checked.is_ready())
}

async fn role_ready(State((health, _)): State<Operations>, Path(role): Path<String>) -> Response {
    let Some(role) = Role::ALL.into_iter().find(|known| known.as_str() == role) else {
        return not_found("the roles are ingress, worker and sender");
    };
    let checked = health.check().await;
    match checked.is_role_ready(role) {
        Some(is_ready) => readiness(&checked, is_ready),
        None => not_found("this role is not in this process"),
    }
}

fn readiness(checked: &Checked, is_ready: bool) -> Response {
    let word = |is_ready: bool| if is_ready { "ready" } else { "not ready" };
    let roles: Map<String, Value> =
        checked.roles().map(|(role, is_ready)| (role.to_owned(), word(is_ready).into())).collect();
    let checks: Map<String, Value> = checked.words().map(|(name, word)| (name.to_owned(), word.into())).collect();
    if is_ready {
        return Json(json!({ "status": "ready", "roles": roles, "checks": checks })).into_response();
    }
    problem(StatusCode::SERVICE_UNAVAILABLE, "not ready", json!({ "roles": roles, "checks": checks }))
}

async fn metrics(State((health, recorder)): State<Operations>) -> Response {
    let Some(recorder) = recorder else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "another metrics recorder is installed", json!({}));
    };
    let gauges = asked(&health).await.render();
    let text = format!("{}{gauges}", recorder.render());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// The current gauges. One that cannot be read is left out.
async fn asked(health: &Health) -> Gauges {
    let mut gauges = Gauges::default();
    if let Ok(Ok(depths)) = tokio::time::timeout(CHECK_TIMEOUT, health.broker.depths()).await {
        let queues = [
            ("inbound", depths.inbound),
            ("outbound", depths.outbound),
            ("receipts", depths.receipts),
            ("delayed", depths.delayed),
            ("dead", depths.dead),
        ];
        for (queue, depth) in queues {
            gauges.count("switchboard_queue_messages", &[("queue", queue)], depth);
        }
    }
    for (stage, progress) in &health.stages {
        let (held, stage) = (progress.held(), ("stage", stage.as_str()));
        gauges.count("switchboard_held_messages", &[stage], held.messages);
        gauges.count("switchboard_held_bytes", &[stage], held.bytes);
        gauges.count("switchboard_resting_lanes", &[stage], held.resting);
        let oldest = held.oldest.map_or(Duration::ZERO, |since| health.clock.age(since));
        gauges.seconds("switchboard_oldest_waiting_seconds", &[stage], oldest);
        let ages = progress.pulse().map_or_else(Vec::new, |pulse| pulse.ages(Instant::now()));
        for (partition, age) in ages.into_iter().enumerate() {
            let labels = [stage, ("partition", &*partition.to_string())];
            gauges.seconds("switchboard_heartbeat_age_seconds", &labels, age);
        }
    }
    gauges
}

fn not_found(detail: &str) -> Response {
    problem(StatusCode::NOT_FOUND, detail, json!({}))
}

/// Problem details, with the members of `more`: <https://www.rfc-editor.org/rfc/rfc9457>.
fn problem(status: StatusCode, detail: &str, more: Value) -> Response {
    let mut body = json!({ "type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail });
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use embedded::Database;
    use embedded::EmbeddedBroker;
    use message::clock::Clock;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_half_sent_request_does_not_hold_up_the_end() {
        let broker = Arc::new(EmbeddedBroker::new(Database::in_memory().unwrap(), Clock::system()));
        let (clock, dead_after) = (Clock::system(), DEADLINE);
        let health = Health { broker, intake: None, store: None, stages: Vec::new(), clock, dead_after };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let shutdown = Shutdown::new(Duration::ZERO);
        let served = tokio::spawn(serve(listener, health, shutdown.clone()));
        client.write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\nGET /health/live HTTP/1.1\r\n").await.unwrap();
        assert!(client.read(&mut [0; 1024]).await.unwrap() > 0, "the connection is being served");
        shutdown.start();
        tokio::time::timeout(DEADLINE, served).await.expect("it ends all the same").unwrap();
    }
}
