//! Searches Twilio's list of messages for a text whose outcome is unknown. Twilio keeps no id of ours to search by, so
//! a text is recognised by its two numbers, its words and its time.
//! <https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources>

use std::time::Duration;

use ::http::StatusCode;
use message::clock::Timestamp;
use message::failure::{Failure, FailureKind};
use serde::Deserialize;
use url::Url;

use super::super::answer::moment;
use super::super::{Candidate, Sms, Trace};
use super::failure;
use super::send::TwilioCarrier;
use super::words::{self, Likeness};

/// How far apart the clocks of Twilio's own machines may be.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
const PAGE_SIZE: &str = "200";
/// How many pages are read at most: more than any conversation's history fills. Later pages are not read.
const MAX_PAGES: usize = 50;

#[derive(Deserialize)]
struct Page {
    messages: Vec<Listed>,
    next_page_uri: Option<String>,
    /// When the page was answered, by Twilio's clock.
    #[serde(skip)]
    answered_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Listed {
    sid: String,
    direction: String,
    from: Option<String>,
    messaging_service_sid: Option<String>,
    num_media: Option<String>,
    date_created: String,
    body: Option<String>,
}

/// Every listed text that may be `sms`, the oldest first.
pub(super) async fn find(carrier: &TwilioCarrier, sms: &Sms<'_>) -> Result<Trace, Failure> {
    let mut next = Some(first_page(carrier, sms)?);
    let mut candidates = Vec::new();
    for _ in 0..MAX_PAGES {
        let Some(url) = next else { break };
        let page = page(carrier, url).await?;
        let ages = page.messages.iter().map(|message| (message, age(message, page.answered_at)));
        candidates.extend(ages.filter_map(|(message, age)| candidate(carrier, message, age, sms)));
        // The newest are listed first.
        let ends = page.messages.last().and_then(|message| age(message, page.answered_at));
        next = if ends.is_some_and(|age| is_before(age, sms)) { None } else { next_page(carrier, &page)? };
        if next.is_none() {
            candidates.reverse();
            return Ok(Trace::Listed(candidates));
        }
    }
    Err(Failure::transient("Twilio lists too many messages to search"))
}

/// The first page of the messages that may be `sms`. A messaging service may choose its number late, so its messages
/// cannot be listed by number.
fn first_page(carrier: &TwilioCarrier, sms: &Sms<'_>) -> Result<Url, Failure> {
    let mut filter = vec![("To", sms.conversation.customer.expose()), ("PageSize", PAGE_SIZE)];
    if carrier.settings.messaging_service_sid.is_none() {
        filter.push(("From", sms.conversation.ours.expose()));
    }
    Url::parse_with_params(&carrier.messages_url(), filter)
        .map_err(|_| Failure::misconfigured("Twilio's base URL is no URL"))
}

async fn page(carrier: &TwilioCarrier, url: Url) -> Result<Page, Failure> {
    let answer = carrier.call(carrier.client.get(url)).await.map_err(harmless)?;
    if answer.status != StatusCode::OK {
        return Err(harmless(failure::of_answer(&answer)));
    }
    let page = answer.json().ok_or_else(|| Failure::transient("Twilio's list of messages cannot be read"))?;
    Ok(Page { answered_at: answer.date, ..page })
}

/// The URL of the page after `page`, always on the configured host.
fn next_page(carrier: &TwilioCarrier, page: &Page) -> Result<Option<Url>, Failure> {
    let Some(path) = page.next_page_uri.as_deref().filter(|path| !path.is_empty()) else { return Ok(None) };
    let url = path.starts_with('/').then(|| Url::parse(&format!("{}{path}", carrier.settings.base_url)).ok());
    url.flatten().map(Some).ok_or_else(|| Failure::transient("Twilio's list of messages cannot be followed"))
}

/// `message`, which was made `age` ago, as a candidate for `sms`; `None` when it certainly is another text.
fn candidate(carrier: &TwilioCarrier, message: &Listed, age: Option<Duration>, sms: &Sms<'_>) -> Option<Candidate> {
    let is_ours = match (&carrier.settings.messaging_service_sid, &message.from) {
        (Some(service), _) => message.messaging_service_sid.as_ref() == Some(service),
        (None, Some(from)) => from.eq_ignore_ascii_case(sms.conversation.ours.expose()),
        (None, None) => true,
    };
    if !is_ours || message.direction != "outbound-api" || age.is_some_and(|age| is_before(age, sms)) {
        return None;
    }
    let likeness = words::compare(sms.text.expose(), message.body.as_deref().unwrap_or_default());
    let has_media = message.num_media.as_deref().is_some_and(|count| count != "0");
    let is_same = match likeness {
        Likeness::Same => has_media != sms.media.is_empty() && age.is_some(),
        // Twilio counts media from the beginning and redacts only words, so other media mean another text.
        Likeness::Similar if has_media == sms.media.is_empty() => return None,
        Likeness::Similar => false,
        Likeness::Different => return None,
    };
    Some(Candidate { name: message.sid.clone(), is_same, age })
}

/// How long ago a message was made. Both times are Twilio's, because our own clock may be set in between.
fn age(message: &Listed, now: Option<Timestamp>) -> Option<Duration> {
    let age = now?.duration_since(moment(&message.date_created)?);
    // One machine's clock may be behind another's.
    Some(Duration::try_from(age).unwrap_or_default())
}

/// Whether a text of this age was made before the first attempt at `sms`.
fn is_before(age: Duration, sms: &Sms<'_>) -> bool {
    age > sms.first_attempt_ago.saturating_add(CLOCK_SKEW)
}

/// Makes an unknown failure a transient one: a search changes nothing, so it can be repeated.
fn harmless(mut failure: Failure) -> Failure {
    if failure.kind == FailureKind::Unknown {
        failure.kind = FailureKind::Transient;
    }
    failure
}
