//! The check of credentials, of the ids in the path, and of the `version` that every call needs.

use http::{HeaderMap, StatusCode, Uri, header};
use jiff::civil::Date;
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::refusal::Refusal;
use crate::config::same_secret;
use crate::twilio::basic;
use crate::world::World;

/// The ids in a path.
#[derive(Debug, Deserialize)]
pub(super) struct Place {
    instance: Option<String>,
    pub(super) assistant: String,
    pub(super) environment: Option<String>,
    pub(super) session: Option<String>,
}

/// Checks credentials, the `version` parameter and the ids, in that order.
pub(super) fn admit(world: &World, headers: &HeaderMap, uri: &Uri, place: &Place) -> Result<(), Refusal> {
    if !authenticated(world, headers) {
        return Err(Refusal::plain(StatusCode::UNAUTHORIZED, "Unauthorized"));
    }
    version(uri)?;
    let known = &world.config.watsonx;
    let right_assistant = match &place.environment {
        Some(environment) => place.assistant == known.assistant_id && *environment == known.environment_id,
        None => place.assistant == known.assistant_id || place.assistant == known.environment_id,
    };
    let right_instance = match (&known.instance_id, &place.instance) {
        (Some(known), given) => given.as_ref() == Some(known),
        (None, _) => true,
    };
    if right_assistant && right_instance {
        return Ok(());
    }
    Err(Refusal::plain(StatusCode::NOT_FOUND, "Resource not found"))
}

fn authenticated(world: &World, headers: &HeaderMap) -> bool {
    let known = &world.config.watsonx;
    let Some(value) = headers.get(header::AUTHORIZATION) else { return world.assistant.anonymous_allowed() };
    if let Some((user, password)) = basic(headers) {
        return user == "apikey" && known.api_keys.iter().any(|key| same_secret(key, password.expose_secret()));
    }
    let bearer = value.to_str().ok().and_then(|value| value.split_once(' '));
    bearer.is_some_and(|(scheme, token)| {
        scheme.eq_ignore_ascii_case("bearer")
            && (world.assistant.tokens.is_good(token) || known.static_tokens.iter().any(|t| same_secret(t, token)))
    })
}

fn version(uri: &Uri) -> Result<(), Refusal> {
    let query = uri.query().unwrap_or_default().as_bytes();
    let version = form_urlencoded::parse(query).find(|(name, _)| name == "version").map(|(_, value)| value);
    let missing = || Refusal::plain(StatusCode::BAD_REQUEST, "Missing query parameter: version");
    let wrong = |_| Refusal::plain(StatusCode::BAD_REQUEST, "Invalid version parameter: use the form YYYY-MM-DD");
    version.ok_or_else(missing)?.parse::<Date>().map(|_| ()).map_err(wrong)
}
