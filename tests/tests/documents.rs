//! The documents list exactly the items that the code has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use broker::ReasonName;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every word of `text` with the prefix of our metrics.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    let names = words.filter(|word| word.starts_with("switchboard_"));
    // A histogram is queried by its buckets.
    names.map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
}

fn sources(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| if path.is_dir() { sources(&path) } else { std::fs::read_to_string(path).unwrap() };
    entries.map(text).collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let folders = ["common", "ingress/src", "worker/src", "sender/src"];
    let code: String = folders.iter().map(|folder| sources(&root().join(folder))).collect();
    let documented = metrics_in(&std::fs::read_to_string(root().join("docs/metrics.md")).unwrap());
    assert_eq!(metrics_in(&code), documented);
    let advised = metrics_in(&std::fs::read_to_string(root().join("docs/operations.md")).unwrap());
    let unknown: Vec<_> = advised.difference(&documented).collect();
    assert!(unknown.is_empty(), "operations.md names {unknown:?}");
    assert!(documented.len() >= 14, "{documented:?}");
}

#[test]
fn metrics_are_told_from_other_words() {
    let found = metrics_in("`switchboard_sends_total{provider=\"x\"}` of switchboard, SWITCHBOARD_LOG");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["switchboard_sends_total"]);
}

#[test]
fn every_reason_of_a_dead_letter_is_documented_and_every_documented_reason_exists() {
    let page = std::fs::read_to_string(root().join("docs/dead-letters.md")).unwrap();
    let (_, table) = page.split_once("## Reasons").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: BTreeSet<&str> = rows.map(|(name, _)| name).collect();
    assert_eq!(ReasonName::ALL.into_iter().map(ReasonName::as_str).collect::<BTreeSet<_>>(), documented);
}
