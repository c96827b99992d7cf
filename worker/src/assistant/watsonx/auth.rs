//! How we authenticate to watsonx: Basic with an API key, or a bearer token, some of which are exchanged first.
//! <https://cloud.ibm.com/apidocs/assistant-v2#authentication>

use integration::{AssistantAuth, CloudPakSecret};
use message::failure::{Failure, FailureKind};
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret as _, SecretString};
use secret::Keyring;
use serde_json::json;
use tokio::time::Instant;

use super::client;
use super::token::{Token, TokenCache};

/// The credentials of one location.
#[derive(Debug)]
pub(super) struct Credentials {
    auth: AssistantAuth,
    cache: TokenCache,
    keyring: Keyring,
}

/// What a request was signed with.
pub(super) struct Proof(Option<SecretString>);

impl Credentials {
    /// Authenticates as `auth` says.
    pub(super) fn new(auth: AssistantAuth) -> Self {
        let keyring = Keyring::new(auth.secret().cloned());
        Self { auth, cache: TokenCache::default(), keyring }
    }

    /// Signs `request`. `refused` is the proof that was answered with 401 just before, which is then not used again.
    pub(super) async fn sign(
        &self,
        http: &reqwest::Client,
        request: RequestBuilder,
        refused: Option<Proof>,
    ) -> Result<(RequestBuilder, Proof), Failure> {
        let token = match &self.auth {
            AssistantAuth::None => return Ok((request, Proof(None))),
            AssistantAuth::ApiKey(key) => {
                return Ok((request.basic_auth("apikey", Some(key.current().expose_secret())), Proof(None)));
            }
            AssistantAuth::Bearer(token) => token.current(),
            AssistantAuth::Iam { .. } | AssistantAuth::CloudPak { .. } => {
                let refused = refused.and_then(|proof| proof.0);
                self.cache.get(refused.as_ref(), Instant::now(), self.exchange(http)).await?
            }
        };
        Ok((request.bearer_auth(token.expose_secret()), Proof(Some(token))))
    }

    /// Whether another proof may succeed, after one that was made after `since` was refused.
    pub(super) async fn can_renew(&self, since: Instant) -> bool {
        let is_exchanged = matches!(self.auth, AssistantAuth::Iam { .. } | AssistantAuth::CloudPak { .. });
        is_exchanged || self.keyring.has_changed(since).await
    }

    /// Exchanges the secret for a token. If the secret is refused and has changed on disk, exchanges the new one.
    async fn exchange(&self, http: &reqwest::Client) -> Result<Token, Failure> {
        let began = Instant::now();
        match self.exchange_once(http).await {
            Err(refused) if !refused.kind.is_retryable() && self.keyring.has_changed(began).await => {
                self.exchange_once(http).await
            }
            exchanged => exchanged,
        }
    }

    async fn exchange_once(&self, http: &reqwest::Client) -> Result<Token, Failure> {
        match &self.auth {
            AssistantAuth::Iam { apikey, url } => {
                let apikey = apikey.current();
                let form = [
                    ("grant_type", "urn:ibm:params:oauth:grant-type:apikey"),
                    ("apikey", apikey.expose_secret()),
                    ("response_type", "cloud_iam"),
                ];
                Token::of_iam(&fetch(http.post(format!("{url}/identity/token")).form(&form)).await?)
            }
            AssistantAuth::CloudPak { url, username, secret } => {
                let body = match secret {
                    CloudPakSecret::Password(s) => {
                        json!({ "username": username, "password": s.current().expose_secret() })
                    }
                    CloudPakSecret::ApiKey(s) => {
                        json!({ "username": username, "api_key": s.current().expose_secret() })
                    }
                };
                Token::of_cloud_pak(&fetch(http.post(format!("{url}/v1/authorize")).json(&body)).await?)
            }
            AssistantAuth::ApiKey(_) | AssistantAuth::Bearer(_) | AssistantAuth::None => {
                Err(Failure::misconfigured("these credentials are not exchanged for a token"))
            }
        }
    }
}

async fn fetch(request: RequestBuilder) -> Result<Vec<u8>, Failure> {
    let request = request.header(reqwest::header::ACCEPT, "application/json");
    client::send(request).await.map_err(|cause| {
        // A token service that refuses our key with a 400, as IAM does, refuses every text alike: the settings are
        // wrong.
        let (kind, what) = if cause.kind.is_retryable() {
            (cause.kind, "no token for the assistant")
        } else {
            (FailureKind::Misconfigured, "no token for the assistant, the credentials are refused")
        };
        let mut failure = Failure::new(kind, what).with_retry_after(cause.retry_after);
        failure.code.clone_from(&cause.code);
        failure.caused_by(cause)
    })
}
