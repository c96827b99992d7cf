//! Secrets that change on disk while the real binary runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

/// The URL that Twilio signs; the test calls the address of ingress itself.
const PUBLIC_URL: &str = "https://sms.example.com";
const MESSAGES: &str = "/webhooks/support/messages";
const ACCOUNT: &str = "AC00000000000000000000000000000000";

/// A child process that is killed when the test ends.
struct Process {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Process {
    /// Starts it and waits until its log says `ready`.
    fn start(directory: &Path, arguments: &[&str], ready: &str) -> Self {
        let mut process = Self::spawn(directory, arguments, Stdio::null());
        process.await_log(ready);
        process
    }

    fn spawn(directory: &Path, arguments: &[&str], stdout: Stdio) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
        command.current_dir(directory).env_clear().stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        let mut child = command.args(arguments).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, log }
    }

    /// Reads the log up to the line that contains `words`.
    fn await_log(&mut self, words: &str) {
        let found = self.log.by_ref().map_while(Result::ok).any(|line| line.contains(words));
        assert!(found, "{words:?} never came");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn configure(directory: &Path, listen: &str) {
    let config = format!(
        "[ingress]\nlisten = '{listen}'\npublic_url = '{PUBLIC_URL}'\n[operations]\nlisten = '127.0.0.1:0'\n\
         [[integrations]]\nid = 'support'\nprovider = 'twilio'\n[integrations.twilio]\naccount_sid = '{ACCOUNT}'\n\
         auth_token = {{ file = 'token' }}\n[integrations.assistant]\nkind = 'scripted'\n"
    );
    std::fs::write(directory.join("switchboard.toml"), config).unwrap();
}

/// What ingress at `address` answers to a text that is signed with `token`.
async fn text_signed_with(token: &str, address: &str) -> u16 {
    let form = [
        ("MessageSid", "SM0123456789abcdef0123456789abcdef"),
        ("AccountSid", ACCOUNT),
        ("From", "+13035550142"),
        ("To", "+12125550100"),
        ("Body", "hello"),
        ("NumMedia", "0"),
    ];
    let form = form.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let signature = simulator::twilio::sign(&token.into(), &format!("{PUBLIC_URL}{MESSAGES}"), &form);
    let client = providers::http_client::client(Duration::from_secs(30)).unwrap();
    let request = client.post(format!("http://{address}{MESSAGES}")).header("x-twilio-signature", signature);
    request.form(&form).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn t12_a_token_that_changes_on_disk_is_taken_without_a_restart_and_with_sighup_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let write = |token: &str| std::fs::write(directory.path().join("token"), format!("{token}\n")).unwrap();
    configure(directory.path(), &address);
    write("first");
    let mut ingress = Process::start(directory.path(), &["ingress"], "ready");
    assert_eq!(text_signed_with("first", &address).await, 204);

    write("second");
    assert_eq!(text_signed_with("second", &address).await, 204, "the file is read again when a proof fails");
    assert_eq!(text_signed_with("first", &address).await, 403);

    write("third");
    assert_eq!(text_signed_with("third", &address).await, 403, "and not again within ten seconds");
    ingress.signal("HUP");
    ingress.await_log("secrets in files were read again");
    assert_eq!(text_signed_with("third", &address).await, 204);
}

#[test]
fn t12_sighup_ends_no_process() {
    let directory = tempfile::tempdir().unwrap();
    configure(directory.path(), "127.0.0.1:0");
    std::fs::write(directory.path().join("token"), "token").unwrap();
    for role in ["up", "ingress", "worker", "sender"] {
        let mut process = Process::start(directory.path(), &[role], "ready");
        for _ in 0..2 {
            process.signal("HUP");
            process.await_log("secrets in files were read again");
        }
        process.signal("TERM");
        assert_eq!(process.child.wait().unwrap().code(), Some(0), "{role}");
    }
    for arguments in [["demo", "--log", "info"], ["simulator", "--log", "info"]] {
        let arguments = arguments.into_iter().chain(["--listen", "127.0.0.1:0"]).collect::<Vec<_>>();
        let mut process = Process::spawn(directory.path(), &arguments, Stdio::piped());
        // The first printed line gives the address.
        BufReader::new(process.child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        process.signal("HUP");
        process.await_log("secrets in files were read again");
    }
}
