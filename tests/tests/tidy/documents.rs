//! ARCHITECTURE.md lists every queue, and the image is built with the toolchain of the repository.

use std::collections::BTreeSet;

use broker::{DELAY_STEPS, Stage, Topology};

use super::{assert_none, repository, root};

/// The shape of every queue and exchange name, as ARCHITECTURE.md writes it.
fn name_shapes() -> BTreeSet<String> {
    let topology = Topology::new("<p>", 2);
    let mut shapes = BTreeSet::from([
        topology.dead_exchange(),
        topology.dead_lock(),
        topology.probe(),
        topology.in_force(),
        topology.in_force_lock(),
    ]);
    for stage in Stage::ALL {
        shapes.insert(topology.exchange(stage));
        shapes.insert(topology.dead_queue(stage));
        shapes.insert(topology.queue(stage, 0));
        shapes.insert(topology.delay(stage, "<step>").replace(stage.as_str(), "<stage>"));
    }
    shapes
}

fn architecture_gaps(architecture: &str) -> Vec<String> {
    let quoted: BTreeSet<_> = architecture.split('`').skip(1).step_by(2).collect();
    let shapes = name_shapes();
    let missing = shapes.iter().filter(|shape| !quoted.contains(shape.as_str()));
    let stale = quoted.iter().filter(|name| name.starts_with("<p>.") && !shapes.contains(**name));
    let text: BTreeSet<_> = architecture.split(|c: char| !c.is_alphanumeric()).collect();
    let steps = DELAY_STEPS.iter().filter(|(step, _)| !text.contains(step));
    let missing = missing.map(|name| format!("ARCHITECTURE.md does not list `{name}`: operators look queues up there"));
    let stale = stale.map(|name| format!("ARCHITECTURE.md lists `{name}`, which topology.rs does not make"));
    let steps = steps.map(|(step, _)| format!("ARCHITECTURE.md does not list the delay step `{step}`"));
    missing.chain(stale).chain(steps).collect()
}

#[test]
fn architecture_lists_every_queue_and_exchange() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    assert_none(&architecture_gaps(&text));
}

#[test]
fn name_shapes_covers_every_name_the_topology_makes() {
    let files = repository();
    let topology =
        files.iter().find(|file| file.path == "common/broker/src/topology.rs").expect("the topology is there");
    let makers = topology.production().matches("-> String").count();
    assert_eq!(makers, 9, "a function of topology.rs that makes a name came or went: adapt name_shapes and this count");
}

#[test]
fn the_image_is_built_with_the_toolchain_of_the_repository() {
    let read = |path| std::fs::read_to_string(root().join(path)).expect("it is there");
    let toolchain: toml::Table = read("rust-toolchain.toml").parse().expect("it is TOML");
    let channel = toolchain["toolchain"]["channel"].as_str().expect("it names a version").to_owned();
    let from = format!("FROM rust:{channel}-");
    assert!(read("Dockerfile").contains(&from), "Dockerfile does not say `{from}…`, as rust-toolchain.toml wants");
}

#[test]
fn planted_gaps_in_architecture_are_found() {
    let whole: String = name_shapes().iter().map(|name| format!("`{name}`\n")).collect();
    let steps: String = DELAY_STEPS.iter().map(|(step, _)| format!("{step}, ")).collect();
    assert_none(&architecture_gaps(&format!("{whole}{steps}")));
    assert_eq!(architecture_gaps(&whole).len(), DELAY_STEPS.len());
    assert_eq!(architecture_gaps(&format!("{whole}{steps}`<p>.old`")).len(), 1);
    assert_eq!(architecture_gaps(&format!("{whole}{steps}").replace("`<p>.probe`", "")).len(), 1);
}
