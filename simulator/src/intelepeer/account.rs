//! The IntelePeer customer: its credentials, numbers and settings.

use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::config::Number;

/// An IntelePeer customer.
#[derive(Clone, Debug)]
pub struct IntelepeerAccount {
    /// The portal's Secret Input, sent as `signature` in every inbound body.
    pub secret: SecretString,
    /// A long-lived token.
    pub token: SecretString,
    /// The user name for the login, which returns tokens that are valid for a day.
    pub username: String,
    /// The password of the user.
    pub password: SecretString,
    /// The customer's numbers.
    pub numbers: Vec<Number>,
    /// The accepted form of the `Authorization` header; the documentation shows both.
    pub accepts: TokenForm,
    /// The lifetime of a token from the login.
    pub token_lifetime: Duration,
    /// Whether texts may go to numbers outside the sender's country code 1. If not, they are refused with 403.
    pub international: bool,
    /// The pause between the attempts of an inbound webhook; the real one is not documented.
    pub redelivery_pause: Duration,
}

impl IntelepeerAccount {
    /// A made-up customer with the number +12125550199.
    #[must_use]
    pub fn demo() -> Self {
        Self {
            secret: "simulated-intelepeer-secret".into(),
            token: "simulated-intelepeer-token".into(),
            username: "demo".to_owned(),
            password: "simulated-intelepeer-password".into(),
            numbers: vec![Number::new("+12125550199")],
            accepts: TokenForm::Both,
            token_lifetime: Duration::from_secs(24 * 60 * 60),
            international: true,
            redelivery_pause: Duration::from_millis(200),
        }
    }
}

/// The form of a token in the `Authorization` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenForm {
    /// `Authorization: Bearer TOKEN`.
    Bearer,
    /// `Authorization: TOKEN`.
    Bare,
    /// Both forms are accepted.
    Both,
}
