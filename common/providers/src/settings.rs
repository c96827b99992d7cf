//! The settings of a provider account.

use secret::Secret;

use crate::intelepeer::IntelepeerSettings;
use crate::twilio::TwilioSettings;

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

/// What to do with a send whose outcome stays unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownOutcome {
    /// Send it again: the customer may get it twice.
    #[default]
    Resend,
    /// Make it a dead letter: the customer may not get it until a person replays it.
    DeadLetter,
}
