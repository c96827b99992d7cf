//! The instance: its assistant, and the credentials of its callers.

use std::time::Duration;

use secrecy::SecretString;

/// A service instance with one assistant in one environment.
#[derive(Clone, Debug)]
pub struct WatsonxInstance {
    /// The only instance id that a path may contain; `None` accepts any.
    pub instance_id: Option<String>,
    /// The assistant.
    pub assistant_id: String,
    /// The assistant's environment. On the older paths its id may replace that of the assistant.
    pub environment_id: String,
    /// Keys for Basic (`apikey:KEY`), for IAM tokens, and for Cloud Pak tokens.
    pub api_keys: Vec<SecretString>,
    /// The Cloud Pak user.
    pub username: String,
    /// The password of the Cloud Pak user.
    pub password: SecretString,
    /// Bearer tokens that never expire.
    pub static_tokens: Vec<SecretString>,
    /// Whether callers without credentials are answered; can be changed later.
    pub allow_anonymous: bool,
    /// The lifetime of a token from the token services.
    pub token_lifetime: Duration,
    /// The time after which an unused session ends.
    pub session_timeout: Duration,
}

impl WatsonxInstance {
    /// A made-up instance.
    #[must_use]
    pub fn demo() -> Self {
        Self {
            instance_id: None,
            assistant_id: "00000000-0000-4000-8000-00000000a551".to_owned(),
            environment_id: "00000000-0000-4000-8000-0000000e0e0e".to_owned(),
            api_keys: vec!["simulated-watsonx-apikey".into()],
            username: "demo".to_owned(),
            password: "simulated-watsonx-password".into(),
            static_tokens: vec!["simulated-watsonx-token".into()],
            allow_anonymous: false,
            token_lifetime: Duration::from_secs(3600),
            session_timeout: Duration::from_secs(3600),
        }
    }
}
