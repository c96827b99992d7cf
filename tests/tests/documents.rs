//! What the documents list and what the code has are the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every word of `text` that begins as our metrics do.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    words.filter(|word| word.starts_with("switchboard_")).map(str::to_owned).collect()
}

fn sources(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| if path.is_dir() { sources(&path) } else { std::fs::read_to_string(path).unwrap() };
    entries.map(text).collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let crates = ["common", "ingress", "worker", "sender"];
    let code: String = crates.iter().map(|name| sources(&root().join(name).join("src"))).collect();
    let documented = metrics_in(&std::fs::read_to_string(root().join("docs/metrics.md")).unwrap());
    assert_eq!(metrics_in(&code), documented);
    assert!(documented.len() >= 14, "{documented:?}");
}

#[test]
fn metrics_are_told_from_other_words() {
    let found = metrics_in("`switchboard_sends_total{provider=\"x\"}` of switchboard, SWITCHBOARD_LOG");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["switchboard_sends_total"]);
}
