//! The allowed dependencies between crates, checked against `cargo metadata`.

use std::process::Command;

use serde_json::Value;

use super::{assert_none, root};

/// A dependency in a manifest.
#[derive(Debug, Clone)]
struct Edge {
    from: String,
    to: String,
    is_for_tests: bool,
    features: Vec<String>,
}

/// Only these crates may depend on `dependency`, tests aside.
struct Wall {
    dependency: &'static str,
    crates: &'static [&'static str],
    reason: &'static str,
}

const WALLS: [Wall; 6] = [
    Wall {
        dependency: "lapin",
        crates: &["broker", "bench", "tests"],
        reason: "RabbitMQ is one adapter of the broker port; what names its client is bound to it",
    },
    Wall {
        dependency: "redis",
        crates: &["store", "bench", "tests"],
        reason: "Redis is one adapter of the store port; what names its client is bound to it",
    },
    Wall {
        dependency: "rusqlite",
        crates: &["embedded", "bench"],
        reason: "the embedded file has one writer, behind the two ports",
    },
    Wall {
        dependency: "reqwest",
        crates: &["providers", "worker", "simulator", "tests"],
        reason: "HTTP calls belong to a provider or an assistant, through the client of providers::http_client",
    },
    Wall {
        dependency: "backoff",
        crates: &["message"],
        reason: "the crate is unmaintained: replacing it must stay a change of one file",
    },
    Wall {
        dependency: "simulator",
        crates: &["cli", "bench", "tests"],
        reason: "the simulator judges the services, so no service may lean on it",
    },
];

/// Only these crates may enable this feature, because its additions would otherwise be in reach of all crates that
/// depend on them.
struct FeatureWall {
    of: &'static str,
    feature: &'static str,
    crates: &'static [&'static str],
    reason: &'static str,
}

const FEATURE_WALLS: [FeatureWall; 3] = [
    FeatureWall {
        of: "providers",
        feature: "send",
        crates: &["sender"],
        reason: "only the sender calls a provider's REST API, so that rates and the send ledger hold",
    },
    FeatureWall { of: "broker", feature: "rabbitmq", crates: &["ports", "tests", "bench"], reason: ADAPTERS },
    FeatureWall { of: "store", feature: "redis", crates: &["ports", "tests", "bench"], reason: ADAPTERS },
];

const ADAPTERS: &str = "services depend on ports; only `ports` opens adapters";

/// The crates of `common/`, from the ground up. Each may depend only on the crates before it, so there is no circle.
const COMMON: [&str; 11] = [
    "message",
    "secret",
    "store",
    "broker",
    "embedded",
    "work",
    "providers",
    "integration",
    "config",
    "operations",
    "ports",
];

/// The crates that no service may depend on. Each service does one thing, and gets its ports from outside.
const SERVICES: [(&str, &[&str]); 3] = [
    ("ingress", &["store", "embedded", "ports", "operations", "worker", "sender"]),
    ("worker", &["embedded", "ports", "operations", "ingress", "sender"]),
    ("sender", &["embedded", "ports", "operations", "ingress", "worker"]),
];

fn edges() -> Vec<Edge> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo tells the dependencies");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let packages = metadata["packages"].as_array().expect("there are packages");
    let edges: Vec<_> = packages.iter().flat_map(edges_of).collect();
    assert!(edges.len() > 100, "only {} dependencies found", edges.len());
    edges
}

fn edges_of(package: &Value) -> Vec<Edge> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = |value: &Value| value.as_array().into_iter().flatten().map(text).collect();
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    let edge = |dependency: &Value| Edge {
        from: text(&package["name"]),
        to: text(&dependency["name"]),
        is_for_tests: dependency["kind"] == "dev",
        features: all(&dependency["features"]),
    };
    dependencies.map(edge).collect()
}

fn breaches(edges: &[Edge]) -> Vec<String> {
    let edges = || edges.iter().filter(|edge| !edge.is_for_tests);
    let names = |crates: &[&str], edge: &Edge| crates.contains(&edge.from.as_str());
    let walls = WALLS.iter().flat_map(|wall| {
        let through = edges().filter(|edge| edge.to == wall.dependency && !names(wall.crates, edge));
        through.map(|edge| format!("{} depends on {}: {}", edge.from, wall.dependency, wall.reason))
    });
    let features = FEATURE_WALLS.iter().flat_map(|wall| {
        let asks = |edge: &&Edge| edge.to == wall.of && edge.features.iter().any(|feature| feature == wall.feature);
        let through = edges().filter(asks).filter(|edge| !names(wall.crates, edge));
        through.map(|edge| format!("{} asks {} for `{}`: {}", edge.from, wall.of, wall.feature, wall.reason))
    });
    let services = SERVICES.iter().flat_map(|(service, banned)| {
        let through = edges().filter(|edge| edge.from == *service && banned.contains(&edge.to.as_str()));
        through.map(|edge| format!("{} depends on {}: a service is handed its ports", edge.from, edge.to))
    });
    walls.chain(features).chain(services).chain(edges().filter_map(upward)).collect()
}

/// The problem with a dependency of a crate in `common/`, if there is one.
fn upward(edge: &Edge) -> Option<String> {
    let level = |name: &str| COMMON.iter().position(|known| *known == name);
    let from = level(&edge.from)?;
    let is_service = ["ingress", "worker", "sender", "cli", "tests", "bench"].contains(&edge.to.as_str());
    let is_upward = level(&edge.to).is_some_and(|to| to >= from) || is_service;
    is_upward.then(|| format!("{} depends on {}, which stands above it", edge.from, edge.to))
}

#[test]
fn every_dependency_stays_behind_its_wall() {
    assert_none(&breaches(&edges()));
}

#[test]
fn every_crate_of_common_has_its_level() {
    let mut folders: Vec<_> = std::fs::read_dir(root().join("common"))
        .expect("common/ is there")
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("it is UTF-8"))
        .collect();
    folders.sort_unstable();
    let mut known = COMMON.to_vec();
    known.sort_unstable();
    assert_eq!(folders, known);
}

#[test]
fn planted_dependencies_are_found_and_those_of_tests_are_not() {
    let edge = |from: &str, to: &str, is_for_tests: bool, features: &[&str]| Edge {
        from: from.to_owned(),
        to: to.to_owned(),
        is_for_tests,
        features: features.iter().map(|feature| (*feature).to_owned()).collect(),
    };
    let plant = |from, to, features: &[&str]| {
        assert_none(&breaches(&[edge(from, to, true, features)]));
        breaches(&[edge(from, to, false, features)]).len()
    };
    for wall in &WALLS {
        assert_eq!(plant("sender", wall.dependency, &[]), 1, "{}", wall.dependency);
    }
    for wall in &FEATURE_WALLS {
        assert_eq!(plant("config", wall.of, &[wall.feature]), 1, "{}", wall.feature);
    }
    for (service, banned) in SERVICES {
        assert!(banned.iter().all(|to| plant(service, to, &[]) == 1), "{service}");
    }
    assert_eq!(plant("store", "broker", &[]), 1, "upward");
    assert_eq!(plant("message", "worker", &[]), 1, "to a service");
    assert_eq!(plant("embedded", "broker", &[]), 0);
}
