//! The settings of a provider account.

use crate::secret::Secret;

/// Which provider, and its account.
#[derive(Debug, Clone)]
pub enum ProviderSettings {
    /// Twilio Programmable Messaging.
    Twilio(TwilioSettings),
    /// IntelePeer.
    Intelepeer(IntelepeerSettings),
}

impl ProviderSettings {
    /// The provider's name in configuration, metrics and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Twilio(_) => "twilio",
            Self::Intelepeer(_) => "intelepeer",
        }
    }

    /// The API that sends, without a trailing slash.
    #[must_use]
    pub fn base_url(&self) -> &str {
        match self {
            Self::Twilio(twilio) => &twilio.base_url,
            Self::Intelepeer(intelepeer) => &intelepeer.base_url,
        }
    }

    /// What proves that a webhook comes from the provider.
    #[must_use]
    pub fn webhook_secrets(&self) -> &[Secret] {
        match self {
            Self::Twilio(twilio) => &twilio.auth_tokens,
            Self::Intelepeer(intelepeer) => &intelepeer.account_secrets,
        }
    }

    /// Every secret of the account.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let sends = match self {
            Self::Twilio(twilio) => twilio.api_key.as_ref().map(|key| key.secret.clone()),
            Self::Intelepeer(intelepeer) => Some(intelepeer.auth.secret().clone()),
        };
        self.webhook_secrets().iter().cloned().chain(sends).collect()
    }
}

/// A Twilio account.
#[derive(Debug, Clone)]
pub struct TwilioSettings {
    /// `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    /// One or more auth tokens: webhooks signed with any of them are believed. The first one sends where there is no key.
    pub auth_tokens: Vec<Secret>,
    /// Sends and asks in the place of the auth token, which then only proves webhooks.
    pub api_key: Option<TwilioApiKey>,
    /// The REST API, without a trailing slash; default `https://api.twilio.com`.
    pub base_url: String,
    /// Sends through this service instead of from a number.
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

/// An IntelePeer account.
#[derive(Debug, Clone)]
pub struct IntelepeerSettings {
    /// The portal's Secret Input, as it stands in webhook bodies; any of several is believed.
    pub account_secrets: Vec<Secret>,
    /// How we prove ourselves.
    pub auth: IntelepeerAuth,
    /// The sending API, without a trailing slash; default `https://api.intelepeer.com`.
    pub base_url: String,
    /// Where tokens are issued, without a trailing slash; default `https://customer.intelepeer.com`.
    pub login_url: String,
    /// What to do with a send whose outcome is unknown: IntelePeer cannot be asked.
    pub unknown_outcome: UnknownOutcome,
}

impl IntelepeerSettings {
    /// An account with the defaults for everything else.
    #[must_use]
    pub fn new(account_secrets: Vec<Secret>, auth: IntelepeerAuth) -> Self {
        Self {
            account_secrets,
            auth,
            base_url: "https://api.intelepeer.com".to_owned(),
            login_url: "https://customer.intelepeer.com".to_owned(),
            unknown_outcome: UnknownOutcome::default(),
        }
    }
}

/// How we prove ourselves to IntelePeer.
#[derive(Debug, Clone)]
pub enum IntelepeerAuth {
    /// A long-lived API token.
    Token(Secret),
    /// A portal user, exchanged for tokens that live 24 hours.
    Login {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
}

impl IntelepeerAuth {
    /// The token, or the user's password.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        match self {
            Self::Token(secret) | Self::Login { password: secret, .. } => secret,
        }
    }
}

/// What to do with a send whose outcome stays unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownOutcome {
    /// Send it again: the customer may get it twice.
    #[default]
    Resend,
    /// Set it aside: the customer may not get it until a person replays it.
    DeadLetter,
}
