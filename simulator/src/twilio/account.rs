//! The account: who it is, and `GET /Accounts/{sid}.json`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use http::HeaderMap;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::authorize;
use super::refusal::Refusal;
use crate::config::Number;
use crate::world::World;

/// A Twilio account.
#[derive(Clone, Debug)]
pub struct TwilioAccount {
    /// `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    /// Authenticates calls, and signs webhooks.
    pub auth_token: SecretString,
    /// The account's numbers.
    pub numbers: Vec<Number>,
    /// Pools of numbers to send from.
    pub messaging_services: Vec<MessagingService>,
}

impl TwilioAccount {
    /// A made-up account with the number +12125550100 and a messaging service with it.
    #[must_use]
    pub fn demo() -> Self {
        Self {
            account_sid: "AC00000000000000000000000000000001".to_owned(),
            auth_token: "simulated-twilio-token".into(),
            numbers: vec![Number::new("+12125550100")],
            messaging_services: vec![MessagingService {
                sid: "MG00000000000000000000000000000001".to_owned(),
                numbers: vec!["+12125550100".to_owned()],
            }],
        }
    }
}

/// A pool of numbers; a text sent through it goes out from one of them.
#[derive(Clone, Debug)]
pub struct MessagingService {
    /// `MG` and 32 hexadecimal digits.
    pub sid: String,
    /// Numbers of the account.
    pub numbers: Vec<String>,
}

pub(super) async fn fetch(
    State(world): State<Arc<World>>,
    Path(account): Path<String>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let Some(sid) = account.strip_suffix(".json") else { return Err(Refusal::not_found(uri.path())) };
    authorize(&world, &headers, sid, uri.path())?;
    let base = format!("/2010-04-01/Accounts/{sid}");
    Ok(Json(json!({
        "sid": sid,
        "owner_account_sid": sid,
        // The real service shows the token here; callers must never log this answer.
        "auth_token": "shown-by-the-real-service",
        "friendly_name": "Simulated account",
        "status": "active",
        "type": "Full",
        "date_created": "Thu, 24 Aug 2023 05:01:45 +0000",
        "date_updated": "Thu, 24 Aug 2023 05:01:45 +0000",
        "uri": format!("{base}.json"),
        "subresource_uris": {
            "messages": format!("{base}/Messages.json"),
            "incoming_phone_numbers": format!("{base}/IncomingPhoneNumbers.json"),
        },
    })))
}
