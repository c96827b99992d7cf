//! Reads an integration's assistant.

use std::path::PathBuf;
use std::time::Duration;

use integration::{AssistantSettings, LONGEST_TURN, ScriptedSettings, WatsonxLocation, WatsonxSettings};

use super::credentials;
use crate::reader::Section;
use crate::reader::entry::Entry;
use crate::reader::{address, duration};

const DEFAULT_VERSION: &str = "2024-08-25";

/// Assistants that a later release will have.
const LATER: [&str; 2] = ["chat_completions", "http"];

#[derive(Clone, Copy)]
enum Kind {
    Watsonx,
    Scripted,
}

const KINDS: [(&str, Kind); 2] = [("watsonx", Kind::Watsonx), ("scripted", Kind::Scripted)];

pub(crate) fn read(mut section: Section<'_>) -> Option<AssistantSettings> {
    let expected = "\"watsonx\" or \"scripted\"";
    let entry = section.require("kind", expected)?;
    if let Some(later) = entry.value.as_str().filter(|kind| LATER.contains(kind)) {
        entry.place.problem(format!("is \"{later}\", which comes later"), expected, "choose one of these for now");
        return None;
    }
    match entry.choice(&KINDS)? {
        Kind::Scripted => Some(AssistantSettings::Scripted(scripted(section))),
        Kind::Watsonx => watsonx(section).map(|settings| AssistantSettings::Watsonx(Box::new(settings))),
    }
}

fn scripted(mut section: Section<'_>) -> ScriptedSettings {
    let file = section.take("file").and_then(|entry| entry.text("the path of a dialogue in TOML")).map(PathBuf::from);
    if file.as_ref().is_some_and(|file| !file.is_file()) {
        // A remark and no problem: only the machines where workers run need the file.
        let mend = "put it where workers run; they do not start without it";
        section.place.key("file").remark("is not on this machine", mend);
    }
    section.finish();
    ScriptedSettings { file }
}

fn watsonx(mut section: Section<'_>) -> Option<WatsonxSettings> {
    let place = section.place.clone();
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
    let defaults = WatsonxSettings::new(locations);
    let settings = WatsonxSettings {
        timeout: timeout.unwrap_or(defaults.timeout),
        retries: retries.unwrap_or(defaults.retries),
        retry_interval: retry_interval.unwrap_or(defaults.retry_interval),
        ..defaults
    };
    if settings.longest_exchange() > LONGEST_TURN {
        let (longest, limit) = (duration::show(settings.longest_exchange()), duration::show(LONGEST_TURN));
        let found = format!(
            "makes an answer take up to {longest}, with its retries and backups, and a turn ends after {limit}"
        );
        place.key("timeout").remark(found, "choose a shorter timeout, or fewer retries");
    }
    Some(settings)
}

/// The service URL of an instance.
fn service_url(entry: Entry<'_>) -> Option<String> {
    let place = entry.place.clone();
    let url = entry.server()?;
    let service = address::without_api_path(&url);
    if service.len() < url.len() {
        place.remark("holds a part of the API's path from /v2 on, which is left out", format!("write \"{service}\""));
    }
    Some(service.to_owned())
}

fn first_location(section: &mut Section<'_>) -> Option<WatsonxLocation> {
    let expected_url = "the service URL of the instance, as its credentials page shows it";
    let url = section.require("url", expected_url).and_then(service_url);
    let assistant_id = section.require("assistant_id", "the assistant's id").and_then(assistant_id);
    let environment_id = section.take("environment_id").and_then(environment_id);
    let version = section.take("version").and_then(version).unwrap_or_else(|| DEFAULT_VERSION.to_owned());
    let auth = section.require("auth", "how to prove ourselves, such as { kind = \"apikey\", apikey = … }");
    let auth = auth.and_then(Entry::section).and_then(credentials::read);
    Some(WatsonxLocation { url: url?, assistant_id: assistant_id?, environment_id, version, auth: auth? })
}

/// A backup. What it does not set, it inherits from the first location. The environment is inherited only together with
/// the assistant, to which it belongs.
fn backup_location(mut section: Section<'_>, first: Option<&WatsonxLocation>) -> Option<WatsonxLocation> {
    let url = section.require("url", "the service URL of the backup").and_then(service_url);
    let own_assistant = section.take("assistant_id").map(assistant_id);
    let environment = section.take("environment_id").and_then(environment_id);
    let version = section.take("version").and_then(version);
    let auth = section.take("auth").map(|entry| entry.section().and_then(credentials::read));
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
