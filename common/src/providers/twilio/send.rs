//! Our requests to Twilio: create a message, and look for one whose fate is unknown.
//! <https://www.twilio.com/docs/messaging/api/message-resource>

use std::time::Duration;

use ::http::StatusCode;
use async_trait::async_trait;
use jiff::SignedDuration;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use super::super::answer::{Answer, moment};
use super::super::{Carrier, Sms, Trace};
use super::failure;
use crate::clock::Timestamp;
use crate::failure::{Failure, FailureKind};
use crate::http;
use crate::integration::TwilioSettings;

/// How far apart the clocks of Twilio's own machines may be.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);
const PAGE_SIZE: &str = "200";
/// More pages than texts that fit into any conversation's history; what lies behind them is not looked at.
const MAX_PAGES: usize = 50;

/// Sends through one Twilio account.
#[derive(Debug)]
pub struct TwilioCarrier {
    settings: TwilioSettings,
    token: SecretString,
    callback: Option<String>,
    client: reqwest::Client,
}

#[derive(Deserialize)]
struct Created {
    sid: String,
}

#[derive(Deserialize)]
struct Page {
    messages: Vec<Listed>,
    next_page_uri: Option<String>,
    /// When it was answered, by Twilio's clock.
    #[serde(skip)]
    answered_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Listed {
    sid: String,
    direction: String,
    date_created: String,
    body: Option<String>,
}

impl TwilioCarrier {
    /// Sends with the account's first token; receipts go to `callback`, an absolute URL without a query.
    /// Each call ends after `timeout`.
    ///
    /// # Errors
    /// When there is no token, or TLS cannot be set up.
    pub fn new(settings: &TwilioSettings, callback: Option<String>, timeout: Duration) -> Result<Self, Failure> {
        let token = settings.auth_tokens.first().cloned();
        let token = token.ok_or_else(|| Failure::misconfigured("the Twilio account has no auth token"))?;
        Ok(Self { settings: settings.clone(), token, callback, client: http::client(timeout)? })
    }

    fn messages_url(&self) -> String {
        format!("{}/2010-04-01/Accounts/{}/Messages.json", self.settings.base_url, self.settings.account_sid)
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> Result<Answer, Failure> {
        Answer::to(request.basic_auth(&self.settings.account_sid, Some(self.token.expose_secret()))).await
    }

    /// Who it comes from, as the form and the list's filter spell it. A service may choose a number late, so its
    /// messages cannot be listed by number.
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

    /// Where the list of messages that may be `sms` begins.
    fn first_page(&self, sms: &Sms<'_>) -> Result<Url, Failure> {
        let mut filter = vec![("To", sms.conversation.customer.expose()), ("PageSize", PAGE_SIZE)];
        if self.settings.messaging_service_sid.is_none() {
            filter.push(("From", sms.conversation.ours.expose()));
        }
        Url::parse_with_params(&self.messages_url(), filter)
            .map_err(|_| Failure::misconfigured("Twilio's base URL is no URL"))
    }

    async fn page(&self, url: Url) -> Result<Page, Failure> {
        let answer = self.call(self.client.get(url)).await.map_err(harmless)?;
        if answer.status != StatusCode::OK {
            return Err(harmless(failure::of_answer(&answer)));
        }
        let page = answer.json().ok_or_else(|| Failure::transient("Twilio's list of messages cannot be read"))?;
        Ok(Page { answered_at: answer.date, ..page })
    }

    /// The page after `page`, on the same host whatever the answer says.
    fn next_page(&self, page: &Page) -> Result<Option<Url>, Failure> {
        let Some(path) = page.next_page_uri.as_deref().filter(|path| !path.is_empty()) else { return Ok(None) };
        let url = path.starts_with('/').then(|| Url::parse(&format!("{}{path}", self.settings.base_url)).ok());
        url.flatten().map(Some).ok_or_else(|| Failure::transient("Twilio's list of messages cannot be followed"))
    }
}

#[async_trait]
impl Carrier for TwilioCarrier {
    async fn send(&self, sms: &Sms<'_>) -> Result<String, Failure> {
        let mut form = self.form(sms);
        let callback = self.callback.as_ref().map(|url| format!("{url}?part={}", sms.part));
        form.extend(callback.iter().map(|url| ("StatusCallback", url.as_str())));
        let answer = self.call(self.client.post(self.messages_url()).form(&form)).await?;
        if !answer.status.is_success() {
            return Err(failure::of_answer(&answer));
        }
        let created = answer.json::<Created>();
        created.map(|message| message.sid).ok_or_else(|| Failure::unknown("Twilio's answer cannot be read"))
    }

    async fn find(&self, sms: &Sms<'_>, known: &[String]) -> Result<Trace, Failure> {
        let mut next = Some(self.first_page(sms)?);
        for _ in 0..MAX_PAGES {
            let Some(url) = next else { return Ok(Trace::Absent) };
            let page = self.page(url).await?;
            for message in page.messages.iter().filter(|message| !known.contains(&message.sid)) {
                if is_same(message, sms, page.answered_at)? {
                    return Ok(Trace::Found(message.sid.clone()));
                }
            }
            next = self.next_page(&page)?;
        }
        Err(Failure::transient("Twilio lists too many messages to search"))
    }
}

/// Twilio keeps no name of ours that can be listed by, so a text is recognised by its ends, its words and its time. Both
/// times are Twilio's: our clock may be set meanwhile.
fn is_same(message: &Listed, sms: &Sms<'_>, now: Option<Timestamp>) -> Result<bool, Failure> {
    let words = message.body.as_deref().unwrap_or_default();
    if message.direction != "outbound-api" || words.trim() != sms.text.expose().trim() {
        return Ok(false);
    }
    let created = moment(&message.date_created);
    let created = created.ok_or_else(|| Failure::transient("Twilio's list of messages holds no date"))?;
    let oldest = SignedDuration::try_from(sms.first_attempt_ago).unwrap_or(SignedDuration::MAX);
    Ok(now.is_none_or(|now| now.duration_since(created) <= oldest.saturating_add(CLOCK_SKEW)))
}

/// Looking changes nothing, so a look that failed in an unknown way may simply be repeated.
fn harmless(mut failure: Failure) -> Failure {
    if failure.kind == FailureKind::Unknown {
        failure.kind = FailureKind::Transient;
    }
    failure
}
