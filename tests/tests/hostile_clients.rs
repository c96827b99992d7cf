//! The front door under strangers: the real process, thousands of bad clients of each kind, and a good client among
//! them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test prints and panics"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use simulator::SimulatorConfig;
use tests::chaos::binary;
use tests::servers::{environment, free_port};
use tests::strangers::{Stranger, besiege};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// The number of bad clients: twice as many as ingress serves at a time.
const CLIENTS: usize = 2048;
/// The longest wait, even on the busiest machine.
const DEADLINE: Duration = Duration::from_secs(60);
const RESIDENT_LIMIT_KIB: u64 = 100 * 1024;
/// The longest time in which a good client should have its answer.
const WITHIN: Duration = Duration::from_secs(1);
/// Held by the test that runs a siege. All sieges measure time on the same cores, so only one may run.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// The number of texts that the good client sends during each siege.
const GOOD_TEXTS: usize = 20;

/// `switchboard ingress`, with the embedded broker.
struct Ingress {
    process: Child,
    address: String,
    directory: tempfile::TempDir,
}

impl Ingress {
    /// Starts ingress with a limit of `open_files` open files.
    async fn start(open_files: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        std::fs::write(directory.path().join("switchboard.toml"), configuration(directory.path(), &address)).unwrap();
        let process = Command::new("bash")
            .args(["-c", &format!("ulimit -n {open_files} && exec \"$0\" ingress")])
            .arg(binary::path())
            .current_dir(directory.path())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let ingress = Self { process, address, directory };
        let up = async {
            while TcpStream::connect(&ingress.address).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, up).await.expect("ingress starts in time");
        ingress
    }

    /// The peak (`VmHWM`) or present (`VmRSS`) resident memory in KiB.
    fn resident_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// Sends good texts, each on its own connection. Returns their latencies, the slowest last.
    async fn text(&self, kind: &str) -> Vec<Duration> {
        let mut took = Vec::new();
        for number in 0..GOOD_TEXTS {
            let began = Instant::now();
            let answer = timeout(DEADLINE, self.post_signed(&format!("SM{kind}{number:08}"))).await;
            let answer = answer.expect("a good text is answered").expect("a good text is not cut off");
            assert!(answer.starts_with("HTTP/1.1 204 "), "{kind}: {answer}");
            took.push(began.elapsed());
            sleep(Duration::from_millis(50)).await;
        }
        took.sort_unstable();
        took
    }

    async fn post_signed(&self, sid: &str) -> std::io::Result<String> {
        let account = SimulatorConfig::demo().twilio;
        let form: Vec<(String, String)> = [
            ("MessageSid", sid),
            ("AccountSid", &account.account_sid),
            ("From", "+13035550142"),
            ("To", "+12125550100"),
            ("Body", "hello"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let path = "/webhooks/support/messages";
        let signature = simulator::twilio::sign(&account.auth_token, &format!("http://{}{path}", self.address), &form);
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nx-twilio-signature: {signature}\r\nconnection: close\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len(),
        );
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn configuration(directory: &Path, address: &str) -> String {
    let account = SimulatorConfig::demo().twilio.account_sid;
    format!(
        r#"
data_dir = "{data}"
[ingress]
listen = "{address}"
public_url = "http://{address}"
[operations]
listen = "127.0.0.1:0"
[[integrations]]
id = "support"
provider = "twilio"
[integrations.twilio]
account_sid = "{account}"
auth_token = "simulated-twilio-token"
[integrations.assistant]
kind = "scripted"
"#,
        data = directory.join("data").display(),
    )
}

/// Whether this process may open `files` files. If not, prints that the test is skipped.
fn may_open(files: usize) -> bool {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    let allowed: usize = line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).unwrap_or(usize::MAX);
    if allowed < files {
        println!("SKIPPED: it takes {files} open files, and {allowed} are allowed");
    }
    allowed >= files
}

/// Nine of ten texts must be quick. The tenth may meet a machine that is busy with other work.
fn assert_quick(took: &[Duration], what: &str) {
    assert!(took[took.len() * 9 / 10 - 1] <= WITHIN, "{what}: good texts took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_b6_b7_thousands_of_bad_clients_of_each_kind_cost_little_memory_and_no_good_one() {
    let _alone = ALONE.lock().await;
    let clients = environment("HOSTILE_CLIENTS").map_or(CLIENTS, |count| count.parse().unwrap());
    if !may_open(clients + 200) {
        return;
    }
    let ingress = Ingress::start(8192).await;
    let alone = ingress.text("Alone").await;
    println!(
        "alone: {} KiB; texts took {:?}, {:?} at most",
        ingress.resident_kib("VmRSS"),
        alone[alone.len() / 2],
        alone.last().unwrap()
    );
    for kind in Stranger::ALL {
        let name = format!("{kind:?}");
        let bad = besiege(kind, &ingress.address, "support", clients).await;
        let took = ingress.text(&name).await;
        drop(bad);
        let (now, most) = (ingress.resident_kib("VmRSS"), ingress.resident_kib("VmHWM"));
        println!(
            "{name}: {now} KiB, at most {most} KiB; good texts took {:?}, {:?} at most",
            took[took.len() / 2],
            took.last().unwrap()
        );
        assert!(most < RESIDENT_LIMIT_KIB, "{name}: {most} KiB");
        assert_quick(&took, &name);
    }
    let log = ingress.log();
    let refused = log.lines().filter(|line| line.contains("refused")).count();
    // There are two kinds of refusals: an unknown integration, and no proof. Each logs a first line, and a sum every
    // minute.
    assert!((1..10).contains(&refused), "{refused} lines about refused requests in\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_b6_clients_that_never_read_are_cut() {
    let _alone = ALONE.lock().await;
    let ingress = Ingress::start(1024).await;
    let mut clients = JoinSet::new();
    for kind in [Stranger::NeverReading, Stranger::Pipelining] {
        for _ in 0..10 {
            let address = ingress.address.clone();
            clients.spawn(async move { kind.play(&address, "support").await });
        }
    }
    timeout(Duration::from_secs(30), async { while clients.join_next().await.is_some() {} })
        .await
        .expect("all are cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_b6_slow_clients_that_take_every_file_descriptor_do_not_keep_a_good_one_out() {
    let _alone = ALONE.lock().await;
    if !may_open(1000) {
        return;
    }
    let ingress = Ingress::start(256).await;
    let bad = besiege(Stranger::SlowHeaders, &ingress.address, "support", 500).await;
    let took = ingress.text("FewFiles").await;
    drop(bad);
    assert_quick(&took, "with few file descriptors");
}
