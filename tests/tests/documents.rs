//! What the documents list and what the code has are the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use message::failure::FailureKind;

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

/// The names that `code` gives to reasons, and the calls that name one otherwise.
fn reasons_in(code: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut names, mut others) = (BTreeSet::new(), BTreeSet::new());
    for call in code.split("Reason::new(").skip(1).map(str::trim_start) {
        match call.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
            Some((name, _)) => names.insert(name.to_owned()),
            None => others.insert(call.split(',').next().unwrap().to_owned()),
        };
    }
    (names, others)
}

#[test]
fn every_reason_of_a_dead_letter_is_documented_and_every_documented_reason_exists() {
    let crates = ["common", "worker", "sender"];
    let code: String = crates.iter().map(|name| sources(&root().join(name).join("src"))).collect();
    let (mut named, others) = reasons_in(&code);
    // Named by the cause of an unanswered turn; whoever names one in another way adds it here.
    assert_eq!(others.into_iter().collect::<Vec<_>>(), ["why.cause.name()"]);
    let ledger = std::fs::read_to_string(root().join("worker/src/turn/ledger.rs")).unwrap();
    let causes = ledger.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next());
    named.extend(causes.filter(|name| name.starts_with("assistant_")).map(str::to_owned));
    // Named by the kind of the failure, which is not retryable, and by RabbitMQ itself.
    named.extend([FailureKind::Permanent, FailureKind::Misconfigured].map(|kind| kind.as_str().to_owned()));
    named.insert("delivery_limit".to_owned());
    let page = std::fs::read_to_string(root().join("docs/dead-letters.md")).unwrap();
    let (_, table) = page.split_once("## Reasons").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: BTreeSet<String> = rows.map(|(name, _)| name.to_owned()).collect();
    assert_eq!(named, documented);
}

#[test]
fn reasons_are_told_from_other_words() {
    let (names, others) = reasons_in("Reason::new(\n    \"late\", why) Reason::new(kind.name(), \"x\")");
    assert_eq!(
        (names.into_iter().collect(), others.into_iter().collect()),
        (vec!["late".to_owned()], vec!["kind.name()".to_owned()])
    );
}
