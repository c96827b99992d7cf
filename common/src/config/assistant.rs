//! Reads an integration's assistant.

use std::path::PathBuf;
use std::time::Duration;

use crate::integration::{
    AssistantAuth, AssistantSettings, CloudPakSecret, ScriptedSettings, WatsonxLocation, WatsonxSettings,
};

use super::entry::Entry;
use super::reader::Section;
use super::{address, options};

const DEFAULT_VERSION: &str = "2024-08-25";
const DEFAULT_IAM_URL: &str = "https://iam.cloud.ibm.com";

#[derive(Clone, Copy)]
enum Kind {
    Watsonx,
    Scripted,
    Later,
}

const KINDS: [(&str, Kind); 4] = [
    ("watsonx", Kind::Watsonx),
    ("scripted", Kind::Scripted),
    ("chat_completions", Kind::Later),
    ("http", Kind::Later),
];

pub(super) fn read(mut section: Section<'_>) -> Option<AssistantSettings> {
    let expected = "\"watsonx\" or \"scripted\"";
    let place = section.place.key("kind");
    let entry = section.require("kind", expected)?;
    let is_later = |kind: &Kind| matches!(kind, Kind::Later);
    let kinds = KINDS.iter().filter(|(_, kind)| !is_later(kind)).copied().collect::<Vec<_>>();
    let later = KINDS.iter().find(|(name, kind)| is_later(kind) && entry.value.as_str() == Some(name));
    if let Some((name, _)) = later {
        place.problem(format!("is \"{name}\", which comes later"), expected, "choose one that this release has");
        return None;
    }
    match entry.choice(&kinds)? {
        Kind::Scripted => Some(AssistantSettings::Scripted(scripted(section))),
        Kind::Watsonx => watsonx(section).map(|settings| AssistantSettings::Watsonx(Box::new(settings))),
        Kind::Later => None,
    }
}

fn scripted(mut section: Section<'_>) -> ScriptedSettings {
    let file = section.take("file").and_then(|entry| entry.text("the path of a dialogue in TOML"));
    section.finish();
    ScriptedSettings { file: file.map(PathBuf::from) }
}

fn watsonx(mut section: Section<'_>) -> Option<WatsonxSettings> {
    let first = first_location(&mut section);
    let timeout_range = Duration::from_millis(1)..=Duration::from_secs(600);
    let timeout = section.take("timeout").and_then(|entry| entry.duration(timeout_range));
    let retries = section.take("retries").and_then(|entry| entry.integer(0..=10));
    let interval_range = Duration::ZERO..=Duration::from_secs(60);
    let retry_interval = section.take("retry_interval").and_then(|entry| entry.duration(interval_range));
    let backups = section.sections("backups");
    let backups: Vec<_> = backups.into_iter().map(|backup| backup_location(backup, first.as_ref())).collect();
    section.finish();
    let locations = [first].into_iter().chain(backups).collect::<Option<Vec<_>>>()?;
    let settings = WatsonxSettings::new(locations);
    Some(WatsonxSettings {
        timeout: timeout.unwrap_or(settings.timeout),
        retries: retries.unwrap_or(settings.retries),
        retry_interval: retry_interval.unwrap_or(settings.retry_interval),
        ..settings
    })
}

fn first_location(section: &mut Section<'_>) -> Option<WatsonxLocation> {
    let expected_url = "the service URL of the instance, as its credentials page shows it";
    let url = section.require("url", expected_url).and_then(service_url);
    let assistant_id = section.require("assistant_id", "the assistant's id").and_then(assistant_id);
    let environment_id = section.take("environment_id").and_then(environment_id);
    let version = section.take("version").and_then(version).unwrap_or_else(|| DEFAULT_VERSION.to_owned());
    let auth = section.require("auth", "how to prove ourselves, such as { kind = \"apikey\", apikey = … }");
    let auth = auth.and_then(Entry::section).and_then(auth_of);
    Some(WatsonxLocation { url: url?, assistant_id: assistant_id?, environment_id, version, auth: auth? })
}

/// A backup: what it does not say is as in the first location, but the environment belongs to the assistant.
fn backup_location(mut section: Section<'_>, first: Option<&WatsonxLocation>) -> Option<WatsonxLocation> {
    let url = section.require("url", "the service URL of the backup").and_then(service_url);
    let own_assistant = section.take("assistant_id").map(assistant_id);
    let environment = section.take("environment_id").and_then(environment_id);
    let version = section.take("version").and_then(version);
    let auth = section.take("auth").map(|entry| entry.section().and_then(auth_of));
    section.finish();
    let first = first?;
    let inherited = if own_assistant.is_none() { first.environment_id.clone() } else { None };
    Some(WatsonxLocation {
        url: url?,
        assistant_id: own_assistant.unwrap_or_else(|| Some(first.assistant_id.clone()))?,
        environment_id: environment.or(inherited),
        version: version.unwrap_or_else(|| first.version.clone()),
        auth: auth.unwrap_or_else(|| Some(first.auth.clone()))?,
    })
}

fn service_url(entry: Entry<'_>) -> Option<String> {
    let place = entry.place.clone();
    let url = entry.address(address::server)?;
    options::notice_plain_http(&place, &url);
    Some(url)
}

fn assistant_id(entry: Entry<'_>) -> Option<String> {
    identifier(entry, "the assistant's id")
}

fn environment_id(entry: Entry<'_>) -> Option<String> {
    identifier(entry, "the environment's id")
}

/// An id becomes part of a URL's path.
fn identifier(entry: Entry<'_>, expected: &str) -> Option<String> {
    entry.parsed(expected, |text| {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(is_allowed);
        if fits { Ok(text.to_owned()) } else { Err("copy it from the assistant's settings page".to_owned()) }
    })
}

fn version(entry: Entry<'_>) -> Option<String> {
    entry.parsed("the API version, a date such as \"2024-08-25\"", |text| {
        let is_date = text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok();
        if is_date { Ok(text.to_owned()) } else { Err("write year, month and day: \"2024-08-25\"".to_owned()) }
    })
}

#[derive(Clone, Copy)]
enum AuthKind {
    ApiKey,
    Iam,
    Bearer,
    CloudPak,
    None,
}

const AUTH_KINDS: [(&str, AuthKind); 5] = [
    ("apikey", AuthKind::ApiKey),
    ("iam", AuthKind::Iam),
    ("bearer", AuthKind::Bearer),
    ("cloud_pak", AuthKind::CloudPak),
    ("none", AuthKind::None),
];

fn auth_of(mut section: Section<'_>) -> Option<AssistantAuth> {
    let kind = section.require("kind", "\"apikey\", \"iam\", \"bearer\", \"cloud_pak\" or \"none\"");
    let auth = match kind?.choice(&AUTH_KINDS)? {
        AuthKind::ApiKey => key(&mut section).map(AssistantAuth::ApiKey),
        AuthKind::Iam => {
            let apikey = key(&mut section);
            let url = section.take("url").map_or_else(|| Some(DEFAULT_IAM_URL.to_owned()), service_url);
            apikey.zip(url).map(|(apikey, url)| AssistantAuth::Iam { apikey, url })
        }
        AuthKind::Bearer => section.require("token", "the token").and_then(Entry::secret).map(AssistantAuth::Bearer),
        AuthKind::CloudPak => cloud_pak(&mut section),
        AuthKind::None => Some(AssistantAuth::None),
    };
    section.finish();
    auth
}

fn key(section: &mut Section<'_>) -> Option<secrecy::SecretString> {
    section.require("apikey", "the service's API key").and_then(Entry::secret)
}

fn cloud_pak(section: &mut Section<'_>) -> Option<AssistantAuth> {
    let url = section.require("url", "the URL of the cluster").and_then(service_url);
    let username = section.require("username", "a user of the cluster").and_then(|entry| entry.text("a user's name"));
    let password = section.take("password").map(Entry::secret);
    let api_key = section.take("api_key").map(Entry::secret);
    let secret = match (password, api_key) {
        (Some(password), None) => password.map(CloudPakSecret::Password),
        (None, Some(api_key)) => api_key.map(CloudPakSecret::ApiKey),
        (password, _) => {
            let found = if password.is_some() { "stands beside api_key" } else { "is missing" };
            section.place.key("password").problem(found, "password or api_key", "give exactly one of the two");
            None
        }
    };
    Some(AssistantAuth::CloudPak { url: url?, username: username?, secret: secret? })
}
