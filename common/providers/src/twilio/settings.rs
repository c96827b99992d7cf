//! The settings of a Twilio account.

use secret::Secret;

/// A Twilio account.
#[derive(Debug, Clone)]
pub struct TwilioSettings {
    /// `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    /// One or more auth tokens: webhooks signed with any of them are accepted. Without an API key, the first one is
    /// used for calls.
    pub auth_tokens: Vec<Secret>,
    /// Used for calls instead of the auth token, which then only proves webhooks.
    pub api_key: Option<TwilioApiKey>,
    /// The REST API, without a trailing slash; default `https://api.twilio.com`.
    pub base_url: String,
    /// If set, texts are sent through this service instead of from a number.
    pub messaging_service_sid: Option<String>,
}

impl TwilioSettings {
    /// An account with the defaults for everything else.
    #[must_use]
    pub fn new(account_sid: String, auth_tokens: Vec<Secret>) -> Self {
        let base_url = "https://api.twilio.com".to_owned();
        Self { account_sid, auth_tokens, api_key: None, base_url, messaging_service_sid: None }
    }
}

/// A Twilio API key, <https://www.twilio.com/docs/iam/api-keys>.
#[derive(Debug, Clone)]
pub struct TwilioApiKey {
    /// `SK` and 32 hexadecimal digits.
    pub sid: String,
    /// Its secret, which Twilio shows once.
    pub secret: Secret,
}
