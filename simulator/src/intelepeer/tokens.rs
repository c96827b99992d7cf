//! `POST /_rest/v4/authenticate`, and the check of tokens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::TokenForm;
use crate::config::same_secret;
use crate::world::{World, fresh_hex, lock};

/// A status and a JSON body.
pub(super) type JsonAnswer = (StatusCode, Json<Value>);

/// Tokens from the login, with the time at which each expires.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<HashMap<String, Instant>>);

impl Tokens {
    fn issue(&self, until: Instant) -> String {
        let token = format!("{}{}", fresh_hex(), fresh_hex());
        let mut tokens = lock(&self.0);
        tokens.retain(|_, end| *end > Instant::now());
        tokens.insert(token.clone(), until);
        token
    }

    fn is_good(&self, token: &str) -> bool {
        lock(&self.0).get(token).is_some_and(|end| *end > Instant::now())
    }

    pub(crate) fn expire_all(&self) {
        lock(&self.0).clear();
    }
}

pub(super) async fn login(State(world): State<Arc<World>>, body: Bytes) -> JsonAnswer {
    let account = &world.config.intelepeer;
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return error(StatusCode::BAD_REQUEST, "Bad Request");
    };
    let username = body.get("username").and_then(Value::as_str).unwrap_or_default();
    let password = body.get("password").and_then(Value::as_str).unwrap_or_default();
    if username != account.username || !same_secret(&account.password, password) {
        return error(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    let token = world.intelepeer_tokens.issue(Instant::now() + account.token_lifetime);
    (StatusCode::OK, Json(json!({ "token": token })))
}

/// Checks the `Authorization` header.
pub(super) fn authorize(world: &World, headers: &HeaderMap) -> Result<(), JsonAnswer> {
    let account = &world.config.intelepeer;
    let value = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let (form, token) = match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => (TokenForm::Bearer, token.trim()),
        _ => (TokenForm::Bare, value),
    };
    let right_form = account.accepts == TokenForm::Both || account.accepts == form;
    let good = same_secret(&account.token, token) || world.intelepeer_tokens.is_good(token);
    if right_form && good { Ok(()) } else { Err(error(StatusCode::UNAUTHORIZED, "Unauthorized")) }
}

/// The documented error body.
pub(super) fn error(status: StatusCode, message: &str) -> JsonAnswer {
    (status, Json(json!({ "code": status.as_u16(), "error": message })))
}
