//! The private listener: is it alive, is it ready, and what do its counters say. Meant for orchestrators, load
//! balancers and Prometheus, never for the internet.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tracing::warn;

use crate::broker::{Broker, Held, Progress, Stage};
use crate::failure::Failure;
use crate::intake::{Intake, SpoolState};
use crate::shutdown::Shutdown;
use crate::store::Store;

/// How long a check may take before it counts as failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// Messages that wait this long without any of them moving mean that a stage is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(120);
/// Histograms must be drained even when nobody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// What a role's readiness depends on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health {
    /// Checked by a real publish.
    pub broker: Arc<dyn Broker>,
    /// The front door, if it is in this process: it can take messages while its spool can, also without the broker.
    pub intake: Option<Arc<Intake>>,
    /// Checked by a real write; ingress needs none.
    pub store: Option<Arc<dyn Store>>,
    /// The stages this process works on.
    pub stages: Vec<(Stage, Arc<Progress>)>,
}

impl Health {
    /// Each check's name, its word, and whether it holds.
    async fn checks(&self) -> Vec<(&'static str, String, bool)> {
        let store = async {
            match &self.store {
                Some(store) => Some(("store", within_time("store", store.check()).await)),
                None => None,
            }
        };
        let (broker, store) = tokio::join!(within_time("broker", self.broker.check()), store);
        let stage = |(stage, progress): &(Stage, Arc<Progress>)| {
            let is_stuck = progress.is_stuck(Instant::now(), STUCK_AFTER);
            let held = progress.held().messages;
            let moving = if is_stuck { Err(format!("stuck: {held} messages wait and none moves")) } else { Ok(()) };
            (stage.as_str(), moving)
        };
        let stages = self.stages.iter().map(stage);
        let spool = self.intake.as_ref().map(|intake| intake.spool()).filter(|spool| *spool != SpoolState::Off);
        // Either will do: what one of them cannot take, the other can.
        let is_taken = broker.is_ok() || spool.is_some_and(SpoolState::takes_messages);
        let spool = spool.map(|spool| ("spool", word(spool), is_taken));
        let told = |(name, checked): (&'static str, Result<(), String>)| {
            let holds = checked.is_ok();
            (name, checked.err().unwrap_or_else(|| "ok".to_owned()), holds)
        };
        let (name, said, _) = told(("broker", broker));
        [(name, said, is_taken)].into_iter().chain(spool).chain(store.into_iter().chain(stages).map(told)).collect()
    }
}

fn word(spool: SpoolState) -> String {
    match spool {
        SpoolState::Off | SpoolState::Idle => "ok".to_owned(),
        SpoolState::InUse(messages) => format!("in use: {messages} messages wait for the broker"),
        SpoolState::Full => "full".to_owned(),
        SpoolState::Failing => "failing: it cannot be written".to_owned(),
    }
}

/// What is wrong, in a word that names no peer; the log has the whole of it.
async fn within_time(name: &str, check: impl Future<Output = Result<(), Failure>>) -> Result<(), String> {
    let Ok(checked) = tokio::time::timeout(CHECK_TIMEOUT, check).await else {
        warn!(check = name, "not ready: no answer in time");
        return Err("no answer in time".to_owned());
    };
    checked.map_err(|failure| {
        warn!(check = name, %failure, "not ready");
        format!("failing: {}", failure.kind.as_str())
    })
}

/// The process's metrics recorder, installed when first asked for; `None` if something else installed one.
#[must_use]
pub fn metrics_recorder() -> Option<PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    RECORDER.get_or_init(|| PrometheusBuilder::new().install_recorder().ok()).clone()
}

/// Serves `/health/live`, `/health/ready` and `/metrics` on `listener` until `shutdown`; requests in flight then get as
/// long as a check may take.
pub async fn serve(listener: TcpListener, health: Health, shutdown: Shutdown) {
    let recorder = metrics_recorder();
    let router = Router::new()
        .route("/health/live", get(|| async { Json(json!({ "status": "alive" })) }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "there is nothing at this path", Map::new()) })
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
    // Graceful means to wait for every request that has begun, also for one that never ends.
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

async fn ready(State((health, _)): State<Operations>) -> Response {
    let checks = health.checks().await;
    let all_well = checks.iter().all(|(_, _, holds)| *holds);
    let words = checks.into_iter().map(|(name, word, _)| (name.to_owned(), Value::String(word)));
    let words: Map<String, Value> = words.collect();
    if all_well {
        return Json(json!({ "status": "ready", "checks": words })).into_response();
    }
    problem(StatusCode::SERVICE_UNAVAILABLE, "not ready", words)
}

async fn metrics(State((health, recorder)): State<Operations>) -> Response {
    let Some(recorder) = recorder else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "another metrics recorder is installed", Map::new());
    };
    if let Ok(Ok(depths)) = tokio::time::timeout(CHECK_TIMEOUT, health.broker.depths()).await {
        let queues = [
            ("inbound", depths.inbound),
            ("outbound", depths.outbound),
            ("receipts", depths.receipts),
            ("delayed", depths.delayed),
            ("dead", depths.dead),
        ];
        for (queue, depth) in queues {
            #[allow(clippy::cast_precision_loss, reason = "depths stay far below 2^52")]
            metrics::gauge!("switchboard_queue_messages", "queue" => queue).set(depth as f64);
        }
    }
    for (stage, progress) in &health.stages {
        hold_gauges(*stage, progress.held());
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], recorder.render()).into_response()
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn hold_gauges(stage: Stage, held: Held) {
    metrics::gauge!("switchboard_held_messages", "stage" => stage.as_str()).set(held.messages as f64);
    metrics::gauge!("switchboard_held_bytes", "stage" => stage.as_str()).set(held.bytes as f64);
    metrics::gauge!("switchboard_resting_lanes", "stage" => stage.as_str()).set(held.resting as f64);
}

fn problem(status: StatusCode, detail: &str, checks: Map<String, Value>) -> Response {
    let mut body = json!({ "type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail });
    if !checks.is_empty() {
        body["checks"] = Value::Object(checks);
    }
    (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;
    use crate::broker::embedded::EmbeddedBroker;
    use crate::clock::Clock;
    use crate::store::embedded::Database;

    #[tokio::test]
    async fn a_half_sent_request_does_not_hold_up_the_end() {
        let broker = Arc::new(EmbeddedBroker::new(Database::in_memory().unwrap(), Clock::system()));
        let health = Health { broker, intake: None, store: None, stages: Vec::new() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let shutdown = Shutdown::new(Duration::ZERO);
        let served = tokio::spawn(serve(listener, health, shutdown.clone()));
        client.write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\nGET /health/live HTTP/1.1\r\n").await.unwrap();
        assert!(client.read(&mut [0; 1024]).await.unwrap() > 0, "the connection is being served");
        shutdown.start();
        tokio::time::timeout(STUCK_AFTER, served).await.expect("it ends all the same").unwrap();
    }
}
