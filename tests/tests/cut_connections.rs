//! Connections to RabbitMQ are cut again and again while many conversations are being acknowledged. No lane waits
//! without end for an answer from a dead connection, and neither does a walk through the dead letters.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use broker::dead_letters::DeadLetters;
use broker::rabbitmq::RabbitMq;
use broker::{Broker, Destination, Outgoing, Reason, ReasonName, Stage, Topology};
use message::shutdown::Shutdown;
use message::{Body, ConversationKey, Envelope};
use tests::logs::log_if_asked;
use tests::samples::text_from;
use tests::servers::{Wire, shared_amqp_url};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use work::{Decision, Handler, Outcome, RunOptions, run};

const CONVERSATIONS: u16 = 48;
const CUTS: usize = 20;
/// The number of messages that are handled between two cuts.
const HANDLED_MEANWHILE: u64 = 300;
const DEADLINE: Duration = Duration::from_secs(60);

/// The numbers that the handler saw in each conversation, and the count of those that were new.
#[derive(Default)]
struct Seen {
    numbers: Mutex<BTreeMap<ConversationKey, Vec<u32>>>,
    count: watch::Sender<u64>,
}

#[async_trait]
impl Handler for Seen {
    async fn handle(&self, envelope: &mut Envelope) -> Decision {
        let Body::Inbound(inbound) = &envelope.body else { panic!("not a text") };
        let number = inbound.text.expose().parse().unwrap();
        let mut seen = self.numbers.lock().unwrap();
        let numbers = seen.entry(envelope.key()).or_default();
        if !numbers.contains(&number) {
            numbers.push(number);
            self.count.send_modify(|count| *count += 1);
        }
        Decision::done(Outcome::Answered)
    }
}

/// Publishes the numbers of one conversation until `stop`, each until it is confirmed. Returns their number.
async fn publish(broker: Arc<RabbitMq>, customer: u16, stop: CancellationToken) -> u32 {
    let mut number = 0;
    while !stop.is_cancelled() {
        let text = text_from(customer, number, &number.to_string());
        let outgoing = Outgoing::new(Destination::Work(Stage::Inbound), &text);
        number += u32::from(broker.publish(std::slice::from_ref(&outgoing)).await.is_ok());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    number
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_no_conversation_stops_for_good_when_connections_are_cut_while_it_is_acknowledged() {
    log_if_asked();
    let wire = Wire::to(shared_amqp_url()).await.unwrap();
    let topology = Topology::new(format!("cuts-{}", uuid::Uuid::new_v4().simple()), 4);
    let consuming = Arc::new(RabbitMq::new(vec![wire.url(shared_amqp_url()).into()], topology.clone()));
    let publishing = Arc::new(RabbitMq::new(vec![shared_amqp_url().into()], topology));
    let (handler, shutdown, stop) =
        (Arc::new(Seen::default()), Shutdown::new(Duration::ZERO), CancellationToken::new());
    let options = RunOptions { concurrency: 64, progress: Arc::default(), store: None, heartbeats: None };
    let running = tokio::spawn(run(consuming, Stage::Inbound, handler.clone(), options, shutdown.clone()));
    let publishers: Vec<_> = (0..CONVERSATIONS)
        .map(|customer| tokio::spawn(publish(Arc::clone(&publishing), customer, stop.clone())))
        .collect();

    let mut count = handler.count.subscribe();
    let mut reaches = async |goal: u64| {
        let reached = timeout(DEADLINE, count.wait_for(|count| *count >= goal)).await.is_ok();
        assert!(reached, "{} of {goal} were handled", *handler.count.borrow());
    };
    for _ in 0..CUTS {
        let handled = *handler.count.borrow();
        reaches(handled + HANDLED_MEANWHILE).await;
        wire.cut();
    }
    stop.cancel();
    let mut total = 0;
    for publisher in publishers {
        total += u64::from(publisher.await.unwrap());
    }
    reaches(total).await;
    shutdown.start();
    running.await.unwrap();
    for numbers in handler.numbers.lock().unwrap().values() {
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
}

/// Discards dead letters one by one. Returns whether the walk reached its end.
async fn discard(operator: &RabbitMq, total: &watch::Sender<u64>) -> bool {
    let Ok(mut walk) = operator.open(Some(Stage::Inbound)).await else { return false };
    loop {
        match walk.next().await {
            Ok(Some(letter)) if walk.discard(letter.tag).await.is_ok() => total.send_modify(|total| *total += 1),
            Ok(None) => return true,
            Ok(Some(_)) | Err(_) => return false,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_no_walk_through_the_dead_letters_hangs_when_its_connection_is_cut() {
    const LETTERS: u32 = 6_000;
    log_if_asked();
    let wire = Wire::to(shared_amqp_url()).await.unwrap();
    let topology = Topology::new(format!("cuts-{}", uuid::Uuid::new_v4().simple()), 1);
    let services = RabbitMq::new(vec![shared_amqp_url().into()], topology.clone());
    for first in (0..LETTERS).step_by(500) {
        let dead = |number| {
            let reason = Reason::new(ReasonName::Permanent, "on purpose");
            Outgoing::new(Destination::Dead(Stage::Inbound, reason), &text_from(0, number, "hello"))
        };
        // Without a key, because letters of one conversation would each wait for the confirm of the one before.
        let unkeyed = |outgoing| Outgoing { key: None, ..outgoing };
        let letters: Vec<_> = (first..first + 500).map(dead).map(unkeyed).collect();
        timeout(DEADLINE, async { while services.publish(&letters).await.is_err() {} }).await.unwrap();
    }
    let total = watch::Sender::new(0);
    let mut discarded = total.subscribe();
    let cutting = async {
        for cut in 1..=10 {
            drop(discarded.wait_for(|discarded| *discarded >= cut * u64::from(LETTERS) / 20).await);
            wire.cut();
        }
    };
    let walking = async {
        let operator = RabbitMq::new(vec![wire.url(shared_amqp_url()).into()], topology);
        while !discard(&operator, &total).await {}
    };
    let hangs = async {
        let mut moved = total.subscribe();
        while timeout(DEADLINE, moved.changed()).await.is_ok() {}
    };
    tokio::select! {
        ((), ()) = async { tokio::join!(walking, cutting) } => {}
        () = hangs => panic!("it hangs after {} letters", *total.borrow()),
    }
}
