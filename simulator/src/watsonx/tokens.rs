//! The token services: IAM's `/identity/token` and Cloud Pak's `/v1/authorize`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::refusal::Refusal;
use crate::config::same_secret;
use crate::world::{World, fresh_hex, lock};

const IAM_GRANT: &str = "urn:ibm:params:oauth:grant-type:apikey";

/// Tokens that were issued, with the time at which each expires.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<HashMap<String, Instant>>);

impl Tokens {
    fn issue(&self, subject: &str, lifetime: Duration) -> (String, i64) {
        let issued = crate::clock::now().as_second();
        let ends = issued.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX));
        let token = jwt(subject, issued, ends);
        let mut tokens = lock(&self.0);
        tokens.retain(|_, end| *end > Instant::now());
        tokens.insert(token.clone(), Instant::now() + lifetime);
        (token, ends)
    }

    pub(super) fn is_good(&self, token: &str) -> bool {
        lock(&self.0).get(token).is_some_and(|end| *end > Instant::now())
    }

    pub(crate) fn expire_all(&self) {
        lock(&self.0).clear();
    }
}

/// A token in the form of a JWT, because IBM's clients decode it to read its times. The signature is arbitrary.
fn jwt(subject: &str, issued: i64, ends: i64) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(json!({ "alg": "HS256", "typ": "JWT" }));
    let body = part(json!({ "sub": subject, "iat": issued, "exp": ends, "jti": fresh_hex() }));
    format!("{head}.{body}.{}", URL_SAFE_NO_PAD.encode(fresh_hex()))
}

fn is_api_key(world: &World, key: &str) -> bool {
    world.config.watsonx.api_keys.iter().any(|known| same_secret(known, key))
}

/// IAM: takes `grant_type` and `apikey` in a form.
pub(super) async fn iam(State(world): State<Arc<World>>, body: Bytes) -> Result<Json<Value>, Refusal> {
    let form: HashMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if field("grant_type") != IAM_GRANT {
        return Err(Refusal::plain(StatusCode::BAD_REQUEST, "Property missing or empty: grant_type"));
    }
    if !is_api_key(&world, field("apikey")) {
        return Err(Refusal::plain(StatusCode::BAD_REQUEST, "Provided API key could not be found."));
    }
    let lifetime = world.config.watsonx.token_lifetime;
    let (token, ends) = world.assistant.tokens.issue("iam", lifetime);
    Ok(Json(json!({
        "access_token": token,
        "refresh_token": "not_supported",
        "token_type": "Bearer",
        "expires_in": lifetime.as_secs(),
        "expiration": ends,
        "scope": "ibm openid",
    })))
}

/// Cloud Pak: takes `username` with `password` or `api_key`, in JSON.
pub(super) async fn cloud_pak(State(world): State<Arc<World>>, body: Bytes) -> Result<Json<Value>, Refusal> {
    let instance = &world.config.watsonx;
    let body: Value = serde_json::from_slice(&body)
        .map_err(|_| Refusal::plain(StatusCode::BAD_REQUEST, "request body is not JSON"))?;
    let field = |name: &str| body.get(name).and_then(Value::as_str);
    let known = field("username") == Some(instance.username.as_str())
        && (field("password").is_some_and(|given| same_secret(&instance.password, given))
            || field("api_key").is_some_and(|given| is_api_key(&world, given)));
    if !known {
        return Err(Refusal::plain(StatusCode::UNAUTHORIZED, "Unauthorized"));
    }
    let (token, _) = world.assistant.tokens.issue(&instance.username, instance.token_lifetime);
    Ok(Json(json!({ "token": token, "_messageCode_": "200", "message": "success" })))
}
