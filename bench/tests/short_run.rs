//! A short run of the real bench with debug builds. All figures are measured and reported, but not judged.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn a_short_run_measures_ours_and_the_floors_and_writes_both_reports() {
    let bench = Path::new(env!("CARGO_BIN_EXE_bench"));
    assert!(bench.with_file_name("switchboard").is_file(), "needs the binary beside it: cargo build -p cli");
    let out = tempfile::tempdir().unwrap();
    let ran = Command::new(bench)
        .args(["--rounds", "1", "--seconds", "1", "--rabbitmq", "own", "--date", "2026-11-26", "--out"])
        .arg(out.path())
        .args(["ingress", "pipeline", "embedded"])
        .output()
        .unwrap();
    let (table, progress) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
    assert!(ran.status.success(), "{progress}\n{table}");
    assert_eq!(fs::read_to_string(out.path().join("bench.md")).unwrap().trim(), table.trim());
    let report: Value = serde_json::from_slice(&fs::read(out.path().join("bench.json")).unwrap()).unwrap();
    for (title, names) in [
        ("ingress", ["ingress maximum / broker floor maximum", "ingress at 50 % p99 / broker floor at 50 % p99"]),
        ("pipeline", ["pipeline maximum / floor maximum", "pipeline at 50 % p50 / floor at 50 % p50"]),
        (
            "embedded",
            ["ingress maximum / commits maximum for ingress", "pipeline maximum / commits maximum for pipeline"],
        ),
    ] {
        let sheets = report["sheets"].as_array().unwrap();
        let sheet = sheets.iter().find(|sheet| sheet["title"] == title).unwrap();
        for name in names {
            let figure = sheet["figures"].as_array().unwrap().iter().find(|figure| figure["name"] == name);
            let values = figure.unwrap_or_else(|| panic!("{title} has no {name}"))["values"].as_array().unwrap();
            assert!(
                values.len() == 1 && values.iter().all(|value| value.as_f64().unwrap() > 0.0),
                "{name}: {values:?}"
            );
            assert!(table.contains(name), "{name} is not told");
        }
    }
}
