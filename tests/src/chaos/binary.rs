//! The binary that the suite runs: the real one, built with failpoints.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use crate::servers::environment;

/// The path of the binary: `SWITCHBOARD_BIN`, or else a binary that is built now, so that it is never older than the
/// code.
///
/// # Panics
/// When the build fails.
#[must_use]
pub fn path() -> &'static PathBuf {
    static BINARY: LazyLock<PathBuf> =
        LazyLock::new(|| environment("SWITCHBOARD_BIN").map_or_else(build, PathBuf::from));
    &BINARY
}

/// Builds the binary with the options of `cargo test --workspace`, so that little is built twice.
fn build() -> PathBuf {
    let cargo = environment("CARGO").unwrap_or_else(|| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["build", "--locked", "--workspace", "--features", "cli/failpoints", "--bin", "switchboard-failpoints"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "switchboard-failpoints does not build");
    let messages = String::from_utf8(output.stdout).expect("cargo's messages are text");
    let built = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .next_back();
    built.expect("cargo names what it built")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_that_make_no_sense_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        for orders in ["kill", "kill=sent", "kill=sent:x", "kill=nowhere:1", "break=all", "sing=loud"] {
            let mut command = Command::new(path());
            let output = command.args(["up", "--failpoints", orders]).current_dir(directory.path()).output().unwrap();
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{orders}: {words}");
            assert!(words.contains("failpoints"), "{orders}: {words}");
        }
    }
}
