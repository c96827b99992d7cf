//! The tokens that IntelePeer's API asks for: one that never changes, or a portal user's, exchanged every day.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::http::StatusCode;
use message::failure::{Failure, FailureKind};
use secrecy::{ExposeSecret as _, SecretString};
use secret::{Keyring, Secret};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::super::answer::Answer;
use super::IntelepeerAuth;
use super::failure;

/// How long a token is used, 23 hours: tokens are valid for 24 hours and are exchanged an hour earlier.
const LIFETIME: Duration = Duration::from_secs(23 * 60 * 60);

/// A token to call with.
#[derive(Debug, Clone)]
pub(super) struct Token {
    /// The secret.
    pub(super) secret: SecretString,
    /// Whether a newer token may be had: not when this one was issued just now.
    pub(super) is_renewable: bool,
}

/// Issues tokens and keeps the current one.
#[derive(Debug)]
pub(super) struct Tokens {
    auth: IntelepeerAuth,
    keyring: Keyring,
    login_url: String,
    client: reqwest::Client,
    issued: Mutex<Option<(SecretString, Instant)>>,
    /// How many exchanges failed.
    failures: AtomicU64,
}

#[derive(Deserialize)]
struct Issued {
    token: SecretString,
}

impl Tokens {
    /// Tokens for `auth`; users log in at `login_url`.
    pub(super) fn new(auth: IntelepeerAuth, login_url: &str, client: reqwest::Client) -> Self {
        let (keyring, login_url) = (Keyring::new([auth.secret().clone()]), login_url.to_owned());
        Self { auth, keyring, login_url, client, issued: Mutex::new(None), failures: AtomicU64::new(0) }
    }

    /// Returns a token other than `refused`, issued now if need be. Concurrent callers share one exchange, also a
    /// failed one: if each caller waited for an exchange of its own, the last would time out and not know that nothing
    /// was sent.
    ///
    /// # Errors
    /// When no token is issued; nothing was sent then.
    pub(super) async fn get(&self, refused: Option<&SecretString>) -> Result<Token, Failure> {
        let (username, password) = match &self.auth {
            IntelepeerAuth::Token(token) => return self.unchanging(token, refused).await,
            IntelepeerAuth::Login { username, password } => (username, password),
        };
        let failures = self.failures.load(Ordering::Relaxed);
        let mut issued = self.issued.lock().await;
        if let Some((secret, at)) = &*issued {
            let is_refused = refused.is_some_and(|refused| refused.expose_secret() == secret.expose_secret());
            if !is_refused && at.elapsed() < LIFETIME {
                return Ok(Token { secret: secret.clone(), is_renewable: refused.is_none() });
            }
        }
        if self.failures.load(Ordering::Relaxed) > failures {
            return Err(Failure::transient("IntelePeer issued no token a moment ago"));
        }
        let began = Instant::now();
        let mut logged_in = self.log_in(username, password).await;
        let is_refused = logged_in.as_ref().is_err_and(|failure| !failure.kind.is_retryable());
        if is_refused && self.keyring.has_changed(began).await {
            logged_in = self.log_in(username, password).await;
        }
        if logged_in.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        let secret = logged_in?;
        *issued = Some((secret.clone(), Instant::now()));
        Ok(Token { secret, is_renewable: false })
    }

    /// The configured token. After a refusal it is read from disk again.
    async fn unchanging(&self, token: &Secret, refused: Option<&SecretString>) -> Result<Token, Failure> {
        if refused.is_some() {
            self.keyring.has_changed(Instant::now()).await;
        }
        Ok(Token { secret: token.current(), is_renewable: refused.is_none() && self.keyring.can_change() })
    }

    async fn log_in(&self, username: &str, password: &Secret) -> Result<SecretString, Failure> {
        let url = format!("{}/_rest/v4/authenticate", self.login_url);
        let user = json!({"username": username, "password": password.current().expose_secret()});
        let request = self.client.post(url).header(::http::header::ACCEPT, "application/json").json(&user);
        let answer = Answer::to(request).await.map_err(before_sending)?;
        if answer.status != StatusCode::OK {
            return Err(before_sending(failure::of_answer(&answer)));
        }
        let issued = answer.json::<Issued>();
        issued.map(|issued| issued.token).ok_or_else(|| Failure::transient("IntelePeer issued no token"))
    }
}

/// Classifies a failed login, which sent no text: it can be repeated, or its settings are wrong.
fn before_sending(mut failure: Failure) -> Failure {
    failure.kind = match failure.kind {
        FailureKind::Unknown => FailureKind::Transient,
        FailureKind::Permanent => FailureKind::Misconfigured,
        kind => kind,
    };
    failure
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn g3_who_waits_for_a_login_that_fails_knows_soon_that_nothing_was_sent() {
        // The kernel accepts connections, and no server answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let patience = Duration::from_millis(500);
        let auth = IntelepeerAuth::Login { username: "user".to_owned(), password: "password".into() };
        let url = format!("http://{}", silent.local_addr().unwrap());
        let tokens = Tokens::new(auth, &url, crate::http_client::client(patience).unwrap());
        let began = Instant::now();
        for token in join_all((0..8).map(|_| tokens.get(None))).await {
            assert_eq!(token.unwrap_err().kind, FailureKind::Transient);
        }
        assert!(began.elapsed() < 4 * patience, "{:?}", began.elapsed());
    }
}
