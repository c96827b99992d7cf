//! The official SDKs of IBM and Twilio judge the simulator, so that Switchboard is tested against real behaviour.
//! The SDKs are in `target/sdk-venv`, which `scripts/sdk-venv` makes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::Duration;

use simulator::{Simulator, SimulatorConfig};
use tokio::process::Command;

const DEADLINE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn ibms_sdk_holds_a_conversation_with_the_simulated_assistant() {
    judge("watson_conversation.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twilios_library_sends_through_the_simulated_twilio() {
    judge("twilio_send.py").await;
}

/// Runs a script against a fresh simulator. The script exits with 0 when all its assertions hold.
async fn judge(script: &str) {
    let simulator = Simulator::start(SimulatorConfig::demo()).await.unwrap();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = venv().join("bin/python");
    assert!(python.exists(), "{} is missing: run `make test`, or scripts/sdk-venv first", python.display());
    let run = Command::new(python).arg(root.join("sdk").join(script)).arg(simulator.url()).kill_on_drop(true).output();
    let output = tokio::time::timeout(DEADLINE, run).await.expect("the script hangs").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} failed:\n{said}");
}

/// The virtual environment is next to the build of this test, wherever the target directory is.
fn venv() -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    target.parent().map(|target| target.join("sdk-venv")).unwrap()
}
