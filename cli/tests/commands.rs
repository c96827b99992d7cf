//! The commands as a person runs them: the real binary, its output, its exit code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn switchboard(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command.current_dir(directory).env_clear().stdin(Stdio::null());
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    switchboard(directory).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_demo_answers_both_texts_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &["demo", "--say", "hello", "--say", "2"]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "stdout:\n{stdout}\nstderr:\n{stderr}");
    let speakers: Vec<&str> =
        stdout.lines().filter_map(|line| line.split_whitespace().next().filter(|_| !line.starts_with(' '))).collect();
    assert_eq!(speakers, ["you", "switchboard", "you", "switchboard"], "{stdout}");
    assert!(stdout.contains("1. "), "the greeting offers numbered options:\n{stdout}");
    assert_eq!(stderr, "", "a demo that goes well logs nothing");
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty() || left == ["data"], "files outside data_dir: {left:?}");
}

#[test]
fn wrong_usage_exits_with_2() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["--nonsense"][..],
        &["nonsense"],
        // Only the fault suite's own binary knows this one.
        &["up", "--failpoints", "kill=sent:1"],
        &["demo", "--listen", "here"],
        &["check-config", "--config", "missing.toml"],
        &["check-config", "--log", "info=loud"],
        &["simulator", "--listen", "127.0.0.1:0", "--webhook", "nonsense"],
    ] {
        assert_eq!(run(directory.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
}

const FIVE_MISTAKES: &str = r#"
[broker]
url = "http://localhost"
partitions = 0

[ingress]
listne = "0.0.0.0:8080"

[[integrations]]
id = "support"
provider = "twilio"
[integrations.twilio]
account_sid = "AC123"
auth_token = { env = "NOT_SET_ANYWHERE" }
[integrations.assistant]
kind = "scripted"
"#;

#[test]
fn check_config_names_all_five_mistakes() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("switchboard.toml"), FIVE_MISTAKES).unwrap();
    let output = run(directory.path(), &["check-config"]);
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{stdout}");
    for named in ["broker.url", "broker.partitions", "listne", "listen", "account_sid", "NOT_SET_ANYWHERE"] {
        assert!(stdout.contains(named), "{named} is not named in:\n{stdout}");
    }
    let refused = run(directory.path(), &["up"]);
    assert_eq!(refused.status.code(), Some(2), "the same mistakes keep a role from starting");
    assert!(text(&refused.stderr).contains("broker.partitions"));
}

/// A role that runs until it is told to stop.
struct Role {
    process: Child,
    log: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Role {
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        Self::of(switchboard(directory).args(arguments))
    }

    fn of(command: &mut Command) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap()).lines();
        Self { process, log }
    }

    /// Reads the log up to the line that contains `words`.
    fn await_log(&mut self, words: &str) {
        let mut seen = Vec::new();
        for line in self.log.by_ref() {
            let line = line.unwrap();
            if line.contains(words) {
                return;
            }
            seen.push(line);
        }
        panic!("{words:?} never came:\n{}", seen.join("\n"));
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // Already gone in a test that went well.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn write_embedded_config(directory: &Path) {
    let config = r#"
[ingress]
listen = "127.0.0.1:0"
public_url = "http://127.0.0.1:1"
[operations]
listen = "127.0.0.1:0"
[[integrations]]
id = "support"
provider = "twilio"
[integrations.twilio]
account_sid = "AC00000000000000000000000000000000"
auth_token = "secret"
[integrations.assistant]
kind = "scripted"
"#;
    std::fs::write(directory.join("switchboard.toml"), config).unwrap();
}

#[test]
fn a_signal_stops_a_role_and_it_exits_with_0() {
    for signal in ["TERM", "INT"] {
        let directory = tempfile::tempdir().unwrap();
        write_embedded_config(directory.path());
        let mut up = Role::start(directory.path(), &["up"]);
        up.await_log("ready");
        up.signal(signal);
        up.await_log("stopped");
        assert_eq!(up.process.wait().unwrap().code(), Some(0), "SIG{signal}");
    }
}

#[test]
fn a_second_process_on_the_same_files_fails_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    write_embedded_config(directory.path());
    let mut first = Role::start(directory.path(), &["up"]);
    first.await_log("ready");
    let second = run(directory.path(), &["up"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("another"), "{}", text(&second.stderr));
}

#[test]
fn a_role_whose_port_is_taken_exits_with_1_and_names_the_address() {
    let directory = tempfile::tempdir().unwrap();
    write_embedded_config(directory.path());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output =
        switchboard(directory.path()).env("SWITCHBOARD__INGRESS__LISTEN", &address).arg("up").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&address), "{}", text(&output.stderr));
}

#[test]
fn a_front_door_without_its_public_url_is_a_wrong_configuration_and_nothing_is_begun() {
    for command in ["up", "ingress"] {
        let directory = tempfile::tempdir().unwrap();
        let output = run(directory.path(), &[command]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {stderr}");
        assert!(stderr.contains("ingress.public_url: is missing"), "{command}: {stderr}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "{command} left files behind");
    }
}

#[test]
fn an_empty_variable_names_no_configuration_file() {
    let directory = tempfile::tempdir().unwrap();
    let output = switchboard(directory.path()).env("SWITCHBOARD_CONFIG", "").arg("check-config").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = switchboard(directory.path()).env("SWITCHBOARD_CONFIG", "gone.toml").arg("up").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("gone.toml"), "{}", text(&output.stderr));
}

#[test]
fn a_log_that_goes_to_no_terminal_has_no_colours() {
    let directory = tempfile::tempdir().unwrap();
    write_embedded_config(directory.path());
    // An empty variable sets no filter, so the default applies.
    let mut process = switchboard(directory.path());
    let mut up = Role::of(process.env("SWITCHBOARD_LOG", "").arg("up"));
    // Remarks on the configuration come first.
    let lines = up.log.by_ref().map_while(Result::ok).inspect(|line| assert!(!line.contains('\u{1b}'), "{line:?}"));
    assert!(lines.into_iter().any(|line| line.contains("INFO")), "the log ended");
}
