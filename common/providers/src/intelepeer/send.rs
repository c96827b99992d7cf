//! Our requests to IntelePeer: send a text. The outcome of a send cannot be asked for: no list of messages is
//! documented.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::http::StatusCode;
use ::http::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use async_trait::async_trait;
use message::MessageId;
use message::failure::Failure;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::super::answer::Answer;
use super::super::{Carrier, Sms, Trace};
use super::IntelepeerSettings;
use super::failure;
use super::token::Tokens;
use crate::http_client;

/// Sends through one IntelePeer account.
#[derive(Debug)]
pub struct IntelepeerCarrier {
    url: String,
    tokens: Tokens,
    /// Whether the token is sent without `Bearer`: the documentation shows both forms.
    is_bare: AtomicBool,
    client: reqwest::Client,
}

#[derive(Serialize)]
struct Request<'a> {
    from: &'a str,
    to: &'a str,
    text: &'a str,
    /// Copied into IntelePeer's records, so that a person can compare; it does not prevent a duplicate text.
    guid: MessageId,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    media: Vec<Link<'a>>,
}

#[derive(Serialize)]
struct Link<'a> {
    link: &'a str,
    #[serde(rename = "content-type", skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
}

#[derive(Deserialize)]
struct Queued {
    refid: String,
}

impl IntelepeerCarrier {
    /// Sends as the account's user. Each call ends after `timeout`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(settings: &IntelepeerSettings, timeout: Duration) -> Result<Self, Failure> {
        let client = http_client::client(timeout)?;
        Ok(Self {
            url: format!("{}/_rest/v4/app/sms/send", settings.base_url),
            tokens: Tokens::new(settings.auth.clone(), &settings.login_url, client.clone()),
            is_bare: AtomicBool::new(false),
            client,
        })
    }

    /// Calls until a token is accepted: the current one, a new one, then the new one in its other form.
    async fn call(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        let is_bare = self.is_bare.load(Ordering::Relaxed);
        let mut token = self.tokens.get(None).await?;
        let mut answer = self.post(request, &token.secret, is_bare).await?;
        if answer.status == StatusCode::UNAUTHORIZED && token.is_renewable {
            token = self.tokens.get(Some(&token.secret)).await?;
            answer = self.post(request, &token.secret, is_bare).await?;
        }
        if answer.status == StatusCode::UNAUTHORIZED {
            answer = self.post(request, &token.secret, !is_bare).await?;
            if answer.status != StatusCode::UNAUTHORIZED {
                self.is_bare.store(!is_bare, Ordering::Relaxed);
            }
        }
        Ok(answer)
    }

    async fn post(&self, request: &Request<'_>, token: &SecretString, is_bare: bool) -> Result<Answer, Failure> {
        let scheme = if is_bare { "" } else { "Bearer " };
        let mut value = HeaderValue::try_from(format!("{scheme}{}", token.expose_secret()))
            .map_err(|_| Failure::misconfigured("IntelePeer's token does not fit into a header"))?;
        value.set_sensitive(true);
        let post = self.client.post(&self.url).header(AUTHORIZATION, value).header(ACCEPT, "application/json");
        Answer::to(post.json(request)).await
    }
}

#[async_trait]
impl Carrier for IntelepeerCarrier {
    async fn send(&self, sms: &Sms<'_>) -> Result<String, Failure> {
        let links = sms.media.iter().map(|m| Link { link: &m.url, content_type: m.content_type.as_deref() });
        let request = Request {
            from: sms.conversation.ours.expose(),
            to: sms.conversation.customer.expose(),
            text: sms.text.expose(),
            guid: sms.part,
            media: links.collect(),
        };
        let answer = self.call(&request).await?;
        if !answer.status.is_success() {
            return Err(failure::of_answer(&answer));
        }
        let queued = answer.json::<Queued>();
        queued.map(|message| message.refid).ok_or_else(|| Failure::unknown("IntelePeer's answer cannot be read"))
    }

    async fn find(&self, _sms: &Sms<'_>) -> Result<Trace, Failure> {
        Ok(Trace::Unsupported)
    }

    fn has_receipts(&self) -> bool {
        false
    }

    fn lists_other_conversations(&self) -> bool {
        false
    }
}
