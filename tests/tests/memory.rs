//! G8: a worker's memory does not grow with the length of the queue.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test prints and panics"
)]

use std::path::Path;
use std::process::Command;

use tests::servers;

/// The difference in KiB that may come from chance: the allocator, pages of the binary, caches of SQLite that fill
/// once.
const SLACK_KIB: u64 = 4 * 1024;

fn run(mode: &str, directory: &Path, broker: &str, prefix: &str, count: u64) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_work_on_backlog"))
        .args([mode, directory.to_str().unwrap(), broker, prefix, &count.to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The peak of a worker's resident memory, in KiB, while `count` texts wait.
fn peak_kib(broker: &str, count: u64) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let prefix = format!("memory-{}", uuid::Uuid::new_v4().simple());
    run("fill", directory.path(), broker, &prefix, count);
    run("work", directory.path(), broker, &prefix, count).parse().unwrap()
}

fn assert_flat(broker: &str) {
    // `make bench` measures 1,000,000 texts on RabbitMQ. Here `BACKLOG` sets that by hand, see docs/performance.md.
    let most = servers::environment("BACKLOG").map_or(100_000, |count| count.parse().unwrap());
    let (few, many) = (peak_kib(broker, 1_000), peak_kib(broker, most));
    println!("peak with 1,000 texts: {few} KiB, with {most}: {many} KiB");
    assert!(many <= few * 6 / 5 + SLACK_KIB, "{few} KiB became {many} KiB");
}

#[test]
#[ignore = "takes a minute or more"]
fn g8_memory_is_flat_under_a_backlog_on_the_embedded_backend() {
    assert_flat("embedded");
}

#[test]
#[ignore = "takes a minute or more"]
fn g8_memory_is_flat_under_a_backlog_on_rabbitmq() {
    assert_flat(servers::shared_amqp_url());
}
