//! The example and the reference know every key that the reader knows, and no other.

use std::collections::{BTreeMap, BTreeSet};

use broker::DEFAULT_PARTITIONS;

use super::{CLIENTS, WHOLE, environment, from_toml, intelepeer, no_environment, whole_environment};
use crate::reader::environment::variable_of;
use crate::{Config, read};

const EXAMPLE: &str = include_str!("../../../../switchboard.example.toml");
const EXAMPLE_ENVIRONMENT: &str = include_str!("../../../../.env.example");
const REFERENCE: &str = include_str!("../../../../docs/configuration.md");

/// Every key without keys of its own, found by reading configurations that go every way.
fn known_keys() -> BTreeSet<String> {
    let auth = |auth: &str| WHOLE.replace("{ kind = \"apikey\", apikey = { env = \"WATSONX_APIKEY\" } }", auth);
    let texts = [
        WHOLE.to_owned(),
        intelepeer(),
        WHOLE.replace("kind = \"watsonx\"", "kind = \"scripted\""),
        auth("{ kind = \"iam\", apikey = \"k\" }"),
        auth("{ kind = \"bearer\", token = \"t\" }"),
        auth("{ kind = \"cloud_pak\" }"),
    ];
    let plain = |text: &String| {
        let names = whole_environment().into_keys();
        names.fold(text.clone(), |text, name| text.replace(&format!("{{ env = \"{name}\" }}"), "\"secret\""))
    };
    let known: BTreeSet<String> =
        texts.iter().flat_map(|text| read(&plain(text), &no_environment(), CLIENTS).1).collect();
    let is_inside = |inner: &String, outer: &String| {
        inner.strip_prefix(outer.as_str()).is_some_and(|rest| rest.starts_with(['.', '[']))
    };
    known.iter().filter(|key| !known.iter().any(|other| is_inside(other, key))).cloned().collect()
}

/// The keys of the example, also those behind `#`.
fn example_keys() -> BTreeSet<String> {
    let mut heading = String::new();
    let mut keys = BTreeSet::new();
    for line in EXAMPLE.lines().map(|line| line.strip_prefix('#').unwrap_or(line)) {
        if line.starts_with('[') {
            let name = line.trim_matches(['[', ']']);
            let listed = name.replacen("integrations", "integrations[]", 1).replace("backups", "backups[]");
            heading = format!("{listed}.");
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
            keys.insert(format!("{heading}{key}"));
        }
    }
    keys
}

/// The first cells of the reference's tables, and their last cells.
fn reference_rows() -> BTreeMap<String, String> {
    let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
    let rows = REFERENCE.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|line| line.trim_matches(['|', ' ']).split('|').map(cell).collect::<Vec<_>>());
    rows.map(|cells| (cells[0].clone(), cells[4].clone())).collect()
}

#[test]
fn the_example_names_every_key_and_no_other() {
    assert_eq!(example_keys(), known_keys());
}

#[test]
fn the_reference_names_every_key_with_its_variable_and_no_other() {
    let rows = reference_rows();
    assert_eq!(rows.keys().cloned().collect::<BTreeSet<_>>(), known_keys());
    for (key, variable) in rows {
        assert_eq!(variable, variable_of(&key.replace("[]", "[0]")), "{key}");
    }
}

#[test]
fn the_example_loads_with_the_variables_of_the_example_environment() {
    let settings = EXAMPLE_ENVIRONMENT.lines().filter(|line| !line.starts_with('#'));
    let variables: Vec<_> = settings.filter_map(|line| line.split_once('=')).collect();
    let config = from_toml(EXAMPLE, &environment(&variables)).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.remarks, []);
}

#[test]
fn the_defaults_shown_in_the_example_are_the_defaults() {
    let settings = EXAMPLE_ENVIRONMENT.lines().filter_map(|line| line.split_once('=')).collect::<Vec<_>>();
    let shown = EXAMPLE.lines().map(|line| {
        let setting = line.strip_prefix('#').filter(|rest| {
            let key = rest.split_once(" = ").map_or("", |(key, _)| key);
            SHOWN_DEFAULTS.contains(&key)
        });
        setting.unwrap_or(line)
    });
    let shown = shown.collect::<Vec<_>>().join("\n");
    let read = |text: &str| {
        let config = from_toml(text, &environment(&settings)).unwrap_or_else(|problems| panic!("{problems}"));
        format!("{:?}", Config { remarks: Vec::new(), ..config })
    };
    assert_eq!(read(&shown), read(EXAMPLE));
    // When `partitions` is left out, the number that the broker already has precedes the default.
    assert!(EXAMPLE.contains(&format!("#partitions = {DEFAULT_PARTITIONS}\n")));
}

/// The keys that the example shows behind `#` with their default.
const SHOWN_DEFAULTS: [&str; 17] = [
    "data_dir",
    "shutdown_grace",
    "prefix",
    "max_length",
    "concurrency",
    "dead_after",
    "timeout",
    "retries",
    "retry_interval",
    "initiate_from_inbound",
    "session_timeout",
    "notify_on_session_timeout",
    "coalesce_window",
    "reply_max_age",
    "rate_per_second",
    "mms",
    "max_part_chars",
];
