//! Texts that ingress accepted while the broker was away survive `kill -9` and a full disk, once and in order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Stage};
use embedded::Database;
use embedded::EmbeddedBroker;
use message::clock::Clock;
use message::shutdown::Shutdown;
use message::{Body, Envelope};
use simulator::{Simulator, SimulatorConfig, Text};
use tests::conformance::DEADLINE;
use tests::samples::front_door;
use tokio::net::TcpListener;
use tokio::sync::watch;
use work::spool_status::{Intake, SpoolState};

const CUSTOMERS: u64 = 8;

/// A customer, and the number of one of their texts.
type Sent = (u64, u64);

/// An ingress in a separate process.
struct Ingress {
    process: Option<Child>,
    simulator: Simulator,
    number: String,
    accepted_in_all: watch::Sender<usize>,
}

impl Ingress {
    /// Starts ingress. `file_limit_blocks` is the largest file that it may write.
    async fn start(dir: &Path, file_limit_blocks: Option<u32>) -> Self {
        let program = env!("CARGO_BIN_EXE_ingress_until_killed");
        let mut command = match file_limit_blocks {
            None => Command::new(program),
            Some(blocks) => {
                let mut shell = Command::new("sh");
                // With the signal ignored, a write beyond the limit fails with an error.
                shell.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$1\"")).arg(program);
                shell
            }
        };
        let mut process = command.arg(dir).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let simulator = Simulator::start(SimulatorConfig::demo()).await.unwrap();
        let number = SimulatorConfig::demo().twilio.numbers[0].number.clone();
        simulator.set_webhook(&number, &format!("{}/webhooks/support/messages", url.trim()));
        Self { process: Some(process), simulator, number, accepted_in_all: watch::Sender::new(0) }
    }

    /// Lets every customer text one number after the other, from `first` on, until `count` texts were accepted in all
    /// or ingress is gone. Returns the accepted texts, and the number of refused ones.
    async fn text(&self, first: u64, count: usize) -> (BTreeSet<Sent>, usize) {
        let customer = |customer: u64| async move {
            let (mut accepted, mut refused) = (BTreeSet::new(), 0);
            for number in first.. {
                let text = Text::new(format!("+1303555{customer:04}"), &self.number, "x".repeat(300));
                let sent = self.simulator.phone().send(text.with_id(format!("SM{customer:016x}{number:016x}"))).await;
                match sent.map(|answer| answer.status) {
                    Ok(204) => {
                        accepted.insert((customer, number));
                        self.accepted_in_all.send_modify(|accepted| *accepted += 1);
                    }
                    Ok(503) => refused += 1,
                    Ok(status) => panic!("the webhook answered {status}"),
                    Err(_) => break,
                }
                if *self.accepted_in_all.borrow() >= count {
                    break;
                }
            }
            (accepted, refused)
        };
        let all = futures_util::future::join_all((0..CUSTOMERS).map(customer)).await;
        all.into_iter().fold((BTreeSet::new(), 0), |(mut all, refused), (accepted, more)| {
            all.extend(accepted);
            (all, refused + more)
        })
    }

    /// Lets every customer text, and kills ingress once `count` texts were accepted and all customers are texting.
    async fn text_and_kill(mut self, first: u64, count: usize) -> BTreeSet<Sent> {
        let mut process = self.process.take().unwrap();
        let counted = async {
            let mut accepted_in_all = self.accepted_in_all.subscribe();
            accepted_in_all.wait_for(|accepted| *accepted >= count).await.unwrap();
            process.kill().unwrap();
        };
        let ((accepted, _), ()) = tokio::join!(self.text(first, usize::MAX), counted);
        assert!(!process.wait().unwrap().success(), "it ended by itself");
        accepted
    }

    fn kill(mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        assert!(!process.wait().unwrap().success(), "it ended by itself");
    }
}

/// All texts that an ingress with a broker publishes from the spool in `dir`, in order.
async fn drained(dir: &Path) -> Vec<Sent> {
    let broker: Arc<dyn Broker> = Arc::new(EmbeddedBroker::new(Database::in_memory().unwrap(), Clock::system()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = front_door(dir.to_owned(), "http://localhost");
    let (intake, shutdown) = (Arc::<Intake>::default(), Shutdown::new(Duration::from_secs(10)));
    let running = tokio::spawn({
        let (broker, intake, shutdown) = (Arc::clone(&broker), Arc::clone(&intake), shutdown.clone());
        async move { ingress::run(listener, &config, broker, Clock::system(), intake, shutdown).await }
    });
    let idle = async {
        while intake.spool() != SpoolState::Idle {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, idle).await.expect("it is drained in time");
    shutdown.start();
    running.await.unwrap().unwrap();
    let waiting = broker.depths().await.unwrap().inbound;
    let mut subscription = broker.subscribe(Stage::Inbound, 64);
    let mut found = Vec::new();
    for _ in 0..waiting {
        let delivery = subscription.next().await;
        let Body::Inbound(text) = Envelope::decode(&delivery.payload).unwrap().body else { panic!("not a text") };
        delivery.settle(&[]).await.unwrap();
        let (customer, number) = text.provider_message_id.trim_start_matches("SM").split_at(16);
        found.push((u64::from_str_radix(customer, 16).unwrap(), u64::from_str_radix(number, 16).unwrap()));
    }
    found
}

fn assert_once_and_in_order(found: &[Sent]) {
    let once: BTreeSet<&Sent> = found.iter().collect();
    assert_eq!(once.len(), found.len(), "a text is there twice");
    let mut numbers: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (customer, number) in found {
        numbers.entry(*customer).or_default().push(*number);
    }
    assert_eq!(numbers.len() as u64, CUSTOMERS);
    assert!(numbers.values().all(|numbers| numbers.is_sorted()), "a text was overtaken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_every_accepted_text_survives_kill_9_of_ingress_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut accepted = BTreeSet::new();
    for round in 0..4_u64 {
        let ingress = Ingress::start(dir.path(), None).await;
        accepted.extend(ingress.text_and_kill(round * 1_000_000, 150).await);
    }
    let found = drained(dir.path()).await;
    assert_once_and_in_order(&found);
    let found: BTreeSet<Sent> = found.into_iter().collect();
    assert!(accepted.len() >= 600, "only {} were accepted", accepted.len());
    assert_eq!(accepted.difference(&found).count(), 0, "accepted texts are lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_a_disk_that_takes_no_more_refuses_and_keeps_exactly_what_was_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let ingress = Ingress::start(dir.path(), Some(20)).await;
    let (accepted, refused) = ingress.text(0, 200).await;
    ingress.kill();
    assert!(refused > 0, "no write ever went too far");
    let found = drained(dir.path()).await;
    assert_once_and_in_order(&found);
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), accepted);
}
