//! Our requests to Twilio: create a message. `find.rs` searches for a message whose outcome is unknown.
//! <https://www.twilio.com/docs/messaging/api/message-resource>

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::http::StatusCode;
use async_trait::async_trait;
use message::failure::Failure;
use secrecy::ExposeSecret as _;
use secret::{Keyring, Secret};
use serde::Deserialize;
use tokio::time::Instant;

use super::super::answer::Answer;
use super::super::{Carrier, Sms, Trace};
use super::TwilioSettings;
use super::{failure, find};
use crate::http_client;

/// Twilio's error codes for a callback URL that it cannot use: <https://www.twilio.com/docs/api/errors/21609>,
/// <https://www.twilio.com/docs/api/errors/48002>.
const CALLBACK_REFUSED: [&str; 2] = ["21609", "48002"];
/// How long a refused callback URL is left out, 10 minutes: each new try costs a call.
const CALLBACK_REST: Duration = Duration::from_secs(10 * 60);

/// Sends through one Twilio account.
#[derive(Debug)]
pub struct TwilioCarrier {
    pub(super) settings: TwilioSettings,
    pub(super) client: reqwest::Client,
    /// The SID of the account or of its API key; `secret` belongs to it.
    user: String,
    secret: Secret,
    keyring: Keyring,
    callback: Option<String>,
    /// Until when the callback URL is left out; set when Twilio refuses it.
    callback_rests_until: Mutex<Option<Instant>>,
}

#[derive(Deserialize)]
struct Created {
    sid: String,
}

impl TwilioCarrier {
    /// Sends with the account's API key, else with its first token; receipts go to `callback`, an absolute URL without
    /// a query. Each call ends after `timeout`.
    ///
    /// # Errors
    /// When there is neither a key nor a token, or TLS cannot be set up.
    pub fn new(settings: &TwilioSettings, callback: Option<String>, timeout: Duration) -> Result<Self, Failure> {
        let token = || Some((settings.account_sid.clone(), settings.auth_tokens.first().cloned()?));
        let key = settings.api_key.as_ref().map(|key| (key.sid.clone(), key.secret.clone()));
        let (user, secret) =
            key.or_else(token).ok_or_else(|| Failure::misconfigured("the Twilio account has no auth token"))?;
        let (settings, client) = (settings.clone(), http_client::client(timeout)?);
        let keyring = Keyring::new([secret.clone()]);
        Ok(Self { settings, client, user, secret, keyring, callback, callback_rests_until: Mutex::default() })
    }

    pub(super) fn messages_url(&self) -> String {
        format!("{}/2010-04-01/Accounts/{}/Messages.json", self.settings.base_url, self.settings.account_sid)
    }

    /// Calls. If Twilio refuses the secret, which has no other effect, and it has changed on disk, calls once more.
    pub(super) async fn call(&self, request: reqwest::RequestBuilder) -> Result<Answer, Failure> {
        let (again, began) = (request.try_clone(), Instant::now());
        let answer = self.call_once(request).await?;
        match again {
            Some(again) if answer.status == StatusCode::UNAUTHORIZED && self.keyring.has_changed(began).await => {
                self.call_once(again).await
            }
            _ => Ok(answer),
        }
    }

    async fn call_once(&self, request: reqwest::RequestBuilder) -> Result<Answer, Failure> {
        Answer::to(request.basic_auth(&self.user, Some(self.secret.current().expose_secret()))).await
    }

    async fn create(&self, sms: &Sms<'_>, callback: Option<&str>) -> Result<String, Failure> {
        let mut form = self.form(sms);
        form.extend(callback.map(|url| ("StatusCallback", url)));
        let answer = self.call(self.client.post(self.messages_url()).form(&form)).await?;
        if !answer.status.is_success() {
            return Err(failure::of_answer(&answer));
        }
        let created = answer.json::<Created>();
        created.map(|message| message.sid).ok_or_else(|| Failure::unknown("Twilio's answer cannot be read"))
    }

    /// The form fields of a message: sender, recipient, text and media.
    fn form<'a>(&'a self, sms: &Sms<'a>) -> Vec<(&'static str, &'a str)> {
        let mut form = vec![match &self.settings.messaging_service_sid {
            Some(service) => ("MessagingServiceSid", service.as_str()),
            None => ("From", sms.conversation.ours.expose()),
        }];
        form.push(("To", sms.conversation.customer.expose()));
        if !sms.text.expose().is_empty() {
            form.push(("Body", sms.text.expose()));
        }
        form.extend(sms.media.iter().map(|medium| ("MediaUrl", medium.url.as_str())));
        form
    }

    /// The URL for receipts; `None` for a while after Twilio refused it.
    fn callback(&self) -> Option<&str> {
        let rests_until = *self.callback_rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        self.callback.as_deref().filter(|_| rests_until.is_none_or(|until| until <= Instant::now()))
    }

    /// Leaves the callback URL out for a while, and logs that the first time.
    fn rest_callback(&self, failure: &Failure) {
        metrics::counter!("switchboard_callbacks_refused_total", "provider" => "twilio").increment(1);
        let until = Instant::now() + CALLBACK_REST;
        let before = self.callback_rests_until.lock().unwrap_or_else(PoisonError::into_inner).replace(until);
        if before.is_none() {
            tracing::warn!(account.sid = self.settings.account_sid, %failure, "Twilio refuses the callback URL: texts are sent without delivery receipts; see ingress.public_url");
        }
    }
}

#[async_trait]
impl Carrier for TwilioCarrier {
    async fn send(&self, sms: &Sms<'_>) -> Result<String, Failure> {
        let callback = self.callback().map(|url| format!("{url}?part={}", sms.part));
        let sent = self.create(sms, callback.as_deref()).await;
        match sent {
            // Only the callback URL was refused, and the text can go without it.
            Err(failure) if callback.is_some() && is_callback_refused(&failure) => {
                self.rest_callback(&failure);
                self.create(sms, None).await
            }
            sent => sent,
        }
    }

    async fn find(&self, sms: &Sms<'_>) -> Result<Trace, Failure> {
        find::find(self, sms).await
    }

    fn has_receipts(&self) -> bool {
        self.callback().is_some()
    }

    fn lists_other_conversations(&self) -> bool {
        self.settings.messaging_service_sid.is_some()
    }
}

fn is_callback_refused(failure: &Failure) -> bool {
    failure.code.as_deref().is_some_and(|code| CALLBACK_REFUSED.contains(&code)) && !failure.kind.is_retryable()
}
