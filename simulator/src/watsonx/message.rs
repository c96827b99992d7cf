//! A turn, with a session or without.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::auth::{Place, admit};
use super::context::merge;
use super::handle::Turn;
use super::input;
use super::refusal::Refusal;
use crate::world::World;

pub(super) async fn stateful(
    State(world): State<Arc<World>>,
    Path(place): Path<Place>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    admit(&world, &headers, &uri, &place)?;
    let request = input::read(&body, false)?;
    let session = place.session.clone().ok_or_else(Refusal::invalid_session)?;
    let sessions = &world.assistant.sessions;
    let (context, earlier_turns) = sessions.turn(&session, &brought(&request)).ok_or_else(Refusal::invalid_session)?;
    let turn = Turn { session_id: Some(session.clone()), earlier_turns, ..new_turn(place, request.clone(), context) };
    let answer = world.assistant.answer(turn).await;
    let context = sessions.keep(&session, answer.context.as_ref().unwrap_or(&json!({})));
    let mut reply = reply(&request, answer.generic, answer.output, &session);
    if wants_context(&request) {
        merge(&mut reply, &json!({ "context": context }));
    }
    Ok(Json(reply))
}

pub(super) async fn stateless(
    State(world): State<Arc<World>>,
    Path(place): Path<Place>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    admit(&world, &headers, &uri, &place)?;
    let request = input::read(&body, true)?;
    let mut context = json!({});
    merge(&mut context, &brought(&request));
    let earlier_turns = context.pointer("/global/system/turn_count").and_then(Value::as_u64).unwrap_or(0);
    merge(&mut context, &json!({ "global": { "system": { "turn_count": earlier_turns + 1 } } }));
    let turn = Turn { earlier_turns, ..new_turn(place, request.clone(), context.clone()) };
    let answer = world.assistant.answer(turn).await;
    if let Some(new) = &answer.context {
        merge(&mut context, new);
    }
    let mut reply = reply(&request, answer.generic, answer.output, "anonymous");
    merge(&mut reply, &json!({ "context": context }));
    Ok(Json(reply))
}

/// The context in the request, if it is an object.
fn brought(request: &Value) -> Value {
    request.get("context").filter(|context| context.is_object()).cloned().unwrap_or_else(|| json!({}))
}

fn new_turn(place: Place, request: Value, context: Value) -> Turn {
    Turn {
        session_id: None,
        assistant_id: place.assistant,
        environment_id: place.environment,
        earlier_turns: 0,
        text: request.pointer("/input/text").and_then(Value::as_str).unwrap_or_default().to_owned(),
        context,
        request,
    }
}

fn wants_context(request: &Value) -> bool {
    let wants = |option: &str| request.pointer(option).and_then(Value::as_bool).unwrap_or(false);
    wants("/input/options/return_context") || wants("/input/options/export")
}

/// The answer's `output` and `user_id`. The session's id replaces the user's if the request names none.
fn reply(request: &Value, generic: Vec<Value>, extra: Option<Value>, session: &str) -> Value {
    let user_id = request.get("user_id").or_else(|| request.pointer("/context/global/system/user_id"));
    let user_id = user_id.and_then(Value::as_str).unwrap_or(session);
    let mut output = json!({ "generic": generic, "intents": [], "entities": [] });
    if let Some(extra) = extra {
        merge(&mut output, &extra);
    }
    json!({ "output": output, "user_id": user_id })
}
