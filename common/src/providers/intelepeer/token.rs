//! The tokens that IntelePeer's API asks for: one that never changes, or a portal user's, exchanged every day.

use std::time::Duration;

use ::http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::super::answer::Answer;
use super::failure;
use crate::failure::{Failure, FailureKind};
use crate::integration::IntelepeerAuth;

/// Tokens live 24 hours; ours are exchanged an hour earlier.
const LIFETIME: Duration = Duration::from_secs(23 * 60 * 60);

/// A token to call with.
#[derive(Debug, Clone)]
pub(super) struct Token {
    /// The secret.
    pub(super) secret: SecretString,
    /// Whether another one could be had: it was not issued just now.
    pub(super) is_renewable: bool,
}

/// Where tokens come from.
#[derive(Debug)]
pub(super) struct Tokens {
    auth: IntelepeerAuth,
    login_url: String,
    client: reqwest::Client,
    issued: Mutex<Option<(SecretString, Instant)>>,
}

#[derive(Deserialize)]
struct Issued {
    token: SecretString,
}

impl Tokens {
    /// Tokens for `auth`; users log in at `login_url`.
    pub(super) fn new(auth: IntelepeerAuth, login_url: &str, client: reqwest::Client) -> Self {
        Self { auth, login_url: login_url.to_owned(), client, issued: Mutex::new(None) }
    }

    /// A token other than `refused`, issued now if need be. Callers that come together share one exchange.
    ///
    /// # Errors
    /// When no token is issued; nothing was sent then.
    pub(super) async fn get(&self, refused: Option<&SecretString>) -> Result<Token, Failure> {
        let (username, password) = match &self.auth {
            IntelepeerAuth::Token(secret) => return Ok(Token { secret: secret.clone(), is_renewable: false }),
            IntelepeerAuth::Login { username, password } => (username, password),
        };
        let mut issued = self.issued.lock().await;
        if let Some((secret, at)) = &*issued {
            let is_refused = refused.is_some_and(|refused| refused.expose_secret() == secret.expose_secret());
            if !is_refused && at.elapsed() < LIFETIME {
                return Ok(Token { secret: secret.clone(), is_renewable: refused.is_none() });
            }
        }
        let secret = self.log_in(username, password).await?;
        *issued = Some((secret.clone(), Instant::now()));
        Ok(Token { secret, is_renewable: false })
    }

    async fn log_in(&self, username: &str, password: &SecretString) -> Result<SecretString, Failure> {
        let url = format!("{}/_rest/v4/authenticate", self.login_url);
        let user = json!({"username": username, "password": password.expose_secret()});
        let request = self.client.post(url).header(::http::header::ACCEPT, "application/json").json(&user);
        let answer = Answer::to(request).await.map_err(before_sending)?;
        if answer.status != StatusCode::OK {
            return Err(before_sending(failure::of_answer(&answer)));
        }
        let issued = answer.json::<Issued>();
        issued.map(|issued| issued.token).ok_or_else(|| Failure::transient("IntelePeer issued no token"))
    }
}

/// A login that failed sent no text: it may simply be repeated, or its settings are wrong.
fn before_sending(mut failure: Failure) -> Failure {
    failure.kind = match failure.kind {
        FailureKind::Unknown => FailureKind::Transient,
        FailureKind::Permanent => FailureKind::Misconfigured,
        kind => kind,
    };
    failure
}
