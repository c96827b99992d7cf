//! The settings of an IntelePeer account.

use secret::Secret;

use crate::UnknownOutcome;

/// An IntelePeer account.
#[derive(Debug, Clone)]
pub struct IntelepeerSettings {
    /// The portal's Secret Input, as it stands in webhook bodies. A body with any of them is accepted.
    pub account_secrets: Vec<Secret>,
    /// How we authenticate.
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

/// How we authenticate to IntelePeer.
#[derive(Debug, Clone)]
pub enum IntelepeerAuth {
    /// A long-lived API token.
    Token(Secret),
    /// A portal user, exchanged for tokens that are valid for 24 hours.
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
