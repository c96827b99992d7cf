//! Messages that the embedded broker confirmed survive `kill -9`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use broker::{Broker as _, Stage};
use embedded::Database;
use embedded::EmbeddedBroker;
use message::clock::Clock;
use message::{Body, Envelope, MessageId};
use tests::conformance::{DEADLINE, WATCH};
use tokio::time::timeout;

/// Starts a publisher and kills it once it has confirmed `confirmed` messages. Returns all that it confirmed.
fn publish_and_kill(dir: &Path, first: u32, confirmed: usize) -> Vec<MessageId> {
    let mut publisher = Command::new(env!("CARGO_BIN_EXE_publish_until_killed"))
        .arg(dir)
        .arg(first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(publisher.stdout.take().unwrap()).lines();
    let mut ids: Vec<String> = lines.by_ref().take(confirmed).map(Result::unwrap).collect();
    publisher.kill().unwrap();
    assert!(!publisher.wait().unwrap().success());
    // The rest of its output before it died. The last line may be cut short.
    ids.extend(lines.map_while(Result::ok));
    assert!(ids.len() >= confirmed, "the publisher ended by itself");
    ids.iter().filter_map(|id| MessageId::parse(id)).collect()
}

/// Takes all messages off the queue of a stage.
async fn drain(broker: &EmbeddedBroker, stage: Stage, waiting: u64) -> Vec<Envelope> {
    let mut subscription = broker.subscribe(stage, 64);
    let mut envelopes = Vec::new();
    for _ in 0..waiting {
        let delivery = timeout(DEADLINE, subscription.next()).await.expect("the depth counts what is there");
        delivery.settle(&[]).await.unwrap();
        envelopes.push(Envelope::decode(&delivery.payload).unwrap());
    }
    timeout(WATCH, subscription.next()).await.expect_err("the depth counts what is there");
    envelopes
}

fn number_of(envelope: &Envelope) -> u32 {
    let Body::Inbound(text) = &envelope.body else { unreachable!("only texts were published") };
    text.provider_message_id.rsplit_once('-').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn every_confirmed_message_survives_kill_9_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut confirmed = BTreeSet::new();
    for round in 0..4_u32 {
        confirmed.extend(publish_and_kill(dir.path(), round * 1_000_000, 200));
    }
    let broker = EmbeddedBroker::new(Database::open(dir.path()).unwrap(), Clock::system());
    let depths = broker.depths().await.unwrap();
    assert!(depths.outbound > 0, "nothing was moved on");
    // The worker moved texts on in order, so the oldest texts of each customer are in outbound.
    let mut found = drain(&broker, Stage::Outbound, depths.outbound).await;
    found.extend(drain(&broker, Stage::Inbound, depths.inbound).await);

    let ids: BTreeSet<_> = found.iter().map(|envelope| envelope.id).collect();
    assert_eq!(ids.len(), found.len(), "a message is in two places");
    let lost = confirmed.difference(&ids).count();
    assert_eq!(lost, 0, "confirmed messages are lost");
    let mut numbers: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    for envelope in &found {
        numbers.entry(envelope.key()).or_default().push(number_of(envelope));
    }
    assert_eq!(numbers.len(), 8, "each of the publisher's customers is there");
    assert!(numbers.values().all(|numbers| numbers.is_sorted()), "order survives too");
}
