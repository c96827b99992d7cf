//! Reads how an integration answers, and says which options have no effect yet.

use std::time::Duration;

use integration::Options;
use providers::{ProviderSettings, UnknownOutcome};
use store::LEDGERS_REMEMBER;

use crate::reader::Section;
use crate::reader::duration;
use crate::reader::entry::Entry;

/// Whether an option, as it is set, changes nothing.
type IsIdle = fn(&Options) -> bool;

/// Options that this release accepts without effect.
const WITHOUT_EFFECT: [(&str, IsIdle); 2] =
    [("notify_on_session_timeout", |options| options.notify_on_session_timeout), ("mms", |options| options.mms)];

/// What may be done with a send whose outcome stays unknown.
pub(crate) const UNKNOWN_OUTCOMES: [(&str, UnknownOutcome); 2] =
    [("resend", UnknownOutcome::Resend), ("dead_letter", UnknownOutcome::DeadLetter)];

const DAY: Duration = Duration::from_secs(24 * 3600);
const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn read(mut section: Section<'_>, provider: Option<&ProviderSettings>) -> Options {
    let set: Vec<_> = WITHOUT_EFFECT.into_iter().filter(|(key, _)| section.has(key)).collect();
    let defaults = provider.map_or_else(Options::default, Options::for_provider);
    let options = Options {
        initiate_from_inbound: boolean(&mut section, "initiate_from_inbound", defaults.initiate_from_inbound),
        failure_message: section.take("failure_message").and_then(failure_message).unwrap_or(defaults.failure_message),
        session_timeout: span(&mut section, "session_timeout", SECOND, defaults.session_timeout),
        notify_on_session_timeout: boolean(
            &mut section,
            "notify_on_session_timeout",
            defaults.notify_on_session_timeout,
        ),
        coalesce_window: section
            .take("coalesce_window")
            .and_then(|entry| entry.duration(Duration::ZERO..=Duration::from_secs(60)))
            .unwrap_or(defaults.coalesce_window),
        reply_max_age: span(&mut section, "reply_max_age", SECOND, defaults.reply_max_age),
        rate_per_second: section
            .take("rate_per_second")
            .and_then(|entry| entry.positive(1000.0))
            .unwrap_or(defaults.rate_per_second),
        allowed_country_codes: section.take("allowed_country_codes").map(country_codes).unwrap_or_default(),
        mms: boolean(&mut section, "mms", defaults.mms),
        max_part_chars: section
            .take("max_part_chars")
            .and_then(|entry| entry.integer(1..=1600))
            .unwrap_or(defaults.max_part_chars),
        unknown_outcome: section
            .take("unknown_outcome")
            .and_then(|entry| entry.choice(&UNKNOWN_OUTCOMES))
            .unwrap_or(defaults.unknown_outcome),
    };
    for (key, is_idle) in set {
        if is_idle(&options) {
            section
                .place
                .key(key)
                .remark("has no effect yet in this release", "leave it for a later one, or remove it");
        }
    }
    if options.reply_max_age > LEDGERS_REMEMBER {
        let (age, memory) = (duration::show(options.reply_max_age), duration::show(LEDGERS_REMEMBER));
        let found = format!("is {age}, and what was answered and sent is remembered for {memory}");
        let mend = format!("write at most \"{memory}\", or an older text may be answered twice");
        section.place.key("reply_max_age").remark(found, mend);
    }
    section.finish();
    options
}

fn boolean(section: &mut Section<'_>, key: &'static str, default: bool) -> bool {
    section.take(key).and_then(Entry::boolean).unwrap_or(default)
}

fn span(section: &mut Section<'_>, key: &'static str, least: Duration, default: Duration) -> Duration {
    section.take(key).and_then(|entry| entry.duration(least..=DAY * 30)).unwrap_or(default)
}

fn failure_message(entry: Entry<'_>) -> Option<String> {
    entry.parsed("1 to 1600 characters of text", |text| {
        let fits = !text.trim().is_empty() && text.chars().count() <= 1600;
        if fits { Ok(text.to_owned()) } else { Err("write what customers shall read, in one text".to_owned()) }
    })
}

fn country_codes(entry: Entry<'_>) -> Vec<String> {
    entry.items().into_iter().filter_map(country_code).collect()
}

fn country_code(entry: Entry<'_>) -> Option<String> {
    entry.parsed("a country calling code such as \"1\" or \"44\"", |text| {
        let fits = (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        if fits { Ok(text.to_owned()) } else { Err("write its 1 to 3 digits, without + or zeros before".to_owned()) }
    })
}
