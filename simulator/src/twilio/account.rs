//! The account: its ids and credentials, and `GET /Accounts/{sid}.json`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use http::HeaderMap;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::{authorize, basic};
use crate::config::{Number, same_secret};
use crate::world::World;

/// A Twilio account.
#[derive(Clone, Debug)]
pub struct TwilioAccount {
    /// The account's id: `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    /// The token that authenticates calls and signs webhooks.
    pub auth_token: SecretString,
    /// The account's numbers.
    pub numbers: Vec<Number>,
    /// Pools of numbers to send from.
    pub messaging_services: Vec<MessagingService>,
    /// Standard API keys. A key may make all calls of the account except reading the account itself.
    pub api_keys: Vec<ApiKey>,
}

/// A standard API key, <https://www.twilio.com/docs/iam/api-keys>.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// The key's id: `SK` and 32 hexadecimal digits.
    pub sid: String,
    /// The key's secret.
    pub secret: SecretString,
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
            api_keys: vec![ApiKey {
                sid: "SK00000000000000000000000000000001".to_owned(),
                secret: "simulated-twilio-key-secret".into(),
            }],
        }
    }

    /// Whether these are the credentials of the account or of one of its keys.
    pub(super) fn admits(&self, user: &str, password: &str) -> bool {
        let key = self.api_keys.iter().find(|key| key.sid == user).map(|key| &key.secret);
        let secret = key.or_else(|| (user == self.account_sid).then_some(&self.auth_token));
        secret.is_some_and(|secret| same_secret(secret, password))
    }
}

/// A pool of numbers. A text that is sent through it leaves from one of them.
#[derive(Clone, Debug)]
pub struct MessagingService {
    /// The service's id: `MG` and 32 hexadecimal digits.
    pub sid: String,
    /// The numbers of the pool; all are the account's.
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
    if basic(&headers).is_some_and(|(user, _)| user != sid) {
        return Err(Refusal::unauthenticated());
    }
    let base = format!("/2010-04-01/Accounts/{sid}");
    Ok(Json(json!({
        "sid": sid,
        "owner_account_sid": sid,
        // The real service shows the token here, so callers must never log this answer.
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
