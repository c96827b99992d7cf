//! Sessions: opened, used, deleted, or ended by their timeout.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::auth::{Place, admit};
use super::context::merge;
use super::refusal::Refusal;
use crate::world::{World, lock};

const MIN_ROOM: usize = 1024;

/// The open sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<String, Session>>,
    /// The number of sessions at which the expired ones are removed.
    room: AtomicUsize,
    timeout: Duration,
}

#[derive(Debug)]
struct Session {
    context: Value,
    turns: u64,
    used: Instant,
}

impl Sessions {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { open: Mutex::default(), room: AtomicUsize::new(MIN_ROOM), timeout }
    }

    fn create(&self) -> String {
        let id = uuid::Uuid::new_v4().to_string();
        let mut open = lock(&self.open);
        if open.len() >= self.room.load(Ordering::Relaxed) {
            open.retain(|_, session| session.used.elapsed() < self.timeout);
            self.room.store(MIN_ROOM.max(2 * open.len()), Ordering::Relaxed);
        }
        open.insert(id.clone(), Session { context: json!({}), turns: 0, used: Instant::now() });
        id
    }

    fn delete(&self, id: &str) -> bool {
        lock(&self.open).remove(id).is_some_and(|session| session.used.elapsed() < self.timeout)
    }

    /// Begins a turn: merges the request's context into the session's. Returns the result and the number of earlier
    /// turns; `None` when the session does not exist.
    pub(super) fn turn(&self, id: &str, brought: &Value) -> Option<(Value, u64)> {
        let mut open = lock(&self.open);
        let session = open.get_mut(id).filter(|session| session.used.elapsed() < self.timeout)?;
        session.used = Instant::now();
        merge(&mut session.context, brought);
        let earlier = session.turns;
        session.turns += 1;
        let system = json!({ "global": { "session_id": id, "system": { "turn_count": session.turns } } });
        merge(&mut session.context, &system);
        Some((session.context.clone(), earlier))
    }

    /// Ends a turn: merges the answer's context into the session's and returns the result.
    pub(super) fn keep(&self, id: &str, brought: &Value) -> Value {
        let mut open = lock(&self.open);
        let Some(session) = open.get_mut(id) else { return json!({}) };
        merge(&mut session.context, brought);
        session.context.clone()
    }

    pub(super) fn count(&self) -> usize {
        lock(&self.open).values().filter(|session| session.used.elapsed() < self.timeout).count()
    }

    pub(crate) fn expire_all(&self) {
        lock(&self.open).clear();
    }
}

pub(super) async fn create(
    State(world): State<Arc<World>>,
    Path(place): Path<Place>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    admit(&world, &headers, &uri, &place)?;
    Ok((StatusCode::CREATED, Json(json!({ "session_id": world.assistant.sessions.create() }))))
}

pub(super) async fn delete(
    State(world): State<Arc<World>>,
    Path(place): Path<Place>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    admit(&world, &headers, &uri, &place)?;
    let deleted = place.session.is_some_and(|id| world.assistant.sessions.delete(&id));
    if deleted { Ok(Json(json!({}))) } else { Err(Refusal::invalid_session()) }
}
