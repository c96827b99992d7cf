//! Reads an integration's provider account.

use providers::ProviderSettings;
use providers::intelepeer::{IntelepeerAuth, IntelepeerSettings};
use providers::twilio::{TwilioApiKey, TwilioSettings};
use secret::Secret;

use super::options::UNKNOWN_OUTCOMES;
use crate::reader::Section;
use crate::reader::entry::Entry;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Provider {
    Twilio,
    Intelepeer,
}

const PROVIDERS: [(&str, Provider); 2] = [("twilio", Provider::Twilio), ("intelepeer", Provider::Intelepeer)];

/// Reads `provider` and the account's section, which bears the provider's name.
pub(crate) fn read(integration: &mut Section<'_>) -> Option<ProviderSettings> {
    let expected = "\"twilio\" or \"intelepeer\"";
    let chosen = integration.require("provider", expected).and_then(|entry| entry.choice(&PROVIDERS));
    let twilio = account(integration, "twilio", chosen.map(|provider| provider == Provider::Twilio)).and_then(twilio);
    let intelepeer = account(integration, "intelepeer", chosen.map(|provider| provider == Provider::Intelepeer))
        .and_then(intelepeer);
    match chosen? {
        Provider::Twilio => twilio.map(ProviderSettings::Twilio),
        Provider::Intelepeer => intelepeer.map(ProviderSettings::Intelepeer),
    }
}

/// The account's section. Without a valid provider it is read if it is there, to report its problems.
fn account<'a>(integration: &mut Section<'a>, name: &'static str, is_chosen: Option<bool>) -> Option<Section<'a>> {
    let place = integration.place.key(name);
    match (is_chosen, integration.take(name)) {
        (Some(true), None) => {
            let mend = format!("add [integrations.{name}] with the account's keys");
            place.problem("is missing", format!("the account, as the provider is \"{name}\""), mend);
            None
        }
        (Some(false), Some(_)) => {
            place.problem("is not used", "only the section of the provider that is named", "remove this section");
            None
        }
        (_, entry) => entry.and_then(Entry::section),
    }
}

fn twilio(mut section: Section<'_>) -> Option<TwilioSettings> {
    let account = "`AC` and 32 hexadecimal digits";
    let account_sid = section.require("account_sid", account).and_then(|entry| sid(entry, "AC", account));
    let auth_tokens = secrets(&mut section, "auth_token", "the account's auth token, or a list, newest first");
    let api_key = api_key(&mut section);
    let base_url = section.take("base_url").and_then(Entry::server);
    let service = "`MG` and 32 hexadecimal digits";
    let messaging_service_sid = section.take("messaging_service_sid").and_then(|entry| sid(entry, "MG", service));
    section.finish();
    let settings = TwilioSettings::new(account_sid?, auth_tokens);
    let base_url = base_url.unwrap_or(settings.base_url);
    Some(TwilioSettings { api_key, base_url, messaging_service_sid, ..settings })
}

fn api_key(section: &mut Section<'_>) -> Option<TwilioApiKey> {
    let key = "`SK` and 32 hexadecimal digits";
    let sid = section.take("api_key_sid").map(|entry| sid(entry, "SK", key));
    let secret = section.take("api_key_secret").map(Entry::secret);
    let missing = match (&sid, &secret) {
        (Some(_), None) => "api_key_secret",
        (None, Some(_)) => "api_key_sid",
        (Some(_), Some(_)) | (None, None) => return Some(TwilioApiKey { sid: sid??, secret: secret?? }),
    };
    section.place.key(missing).problem("is missing", "api_key_sid and api_key_secret, or neither", "add the other one");
    None
}

fn sid(entry: Entry<'_>, prefix: &str, expected: &str) -> Option<String> {
    entry.parsed(expected, |text| {
        let digits = text.strip_prefix(prefix).unwrap_or("");
        let fits = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if fits { Ok(text.to_owned()) } else { Err("copy the whole SID from the Twilio console".to_owned()) }
    })
}

fn intelepeer(mut section: Section<'_>) -> Option<IntelepeerSettings> {
    let account_secrets = secrets(&mut section, "account_secret", "the portal's Secret Input, or a list");
    let auth = intelepeer_auth(&mut section);
    let base_url = section.take("base_url").and_then(Entry::server);
    let login_url = section.take("login_url").and_then(Entry::server);
    let unknown_outcome = section.take("unknown_outcome").and_then(|entry| entry.choice(&UNKNOWN_OUTCOMES));
    section.finish();
    let settings = IntelepeerSettings::new(account_secrets, auth?);
    Some(IntelepeerSettings {
        base_url: base_url.unwrap_or(settings.base_url),
        login_url: login_url.unwrap_or(settings.login_url),
        unknown_outcome: unknown_outcome.unwrap_or_default(),
        ..settings
    })
}

fn intelepeer_auth(section: &mut Section<'_>) -> Option<IntelepeerAuth> {
    let token = section.take("auth_token").map(Entry::secret);
    let username = section.take("username").map(|entry| entry.text("a portal user"));
    let password = section.take("password").map(Entry::secret);
    let place = section.place.key("auth_token");
    let expected = "auth_token, or username and password";
    match (token, username, password) {
        (Some(token), None, None) => token.map(IntelepeerAuth::Token),
        (None, Some(username), Some(password)) => {
            Some(IntelepeerAuth::Login { username: username?, password: password? })
        }
        (None, None, None) => {
            place.problem("is missing", expected, "add `auth_token` under [integrations.intelepeer]");
            None
        }
        (None, ..) => {
            place.problem("is missing, and of username and password only one is there", expected, "add the other one");
            None
        }
        (Some(_), ..) => {
            place.problem("stands beside username or password", expected, "keep one of the two ways");
            None
        }
    }
}

/// One required secret or several. None at all only when that was reported.
fn secrets(section: &mut Section<'_>, key: &'static str, expected: &str) -> Vec<Secret> {
    section.require(key, expected).map(Entry::secrets).unwrap_or_default()
}
