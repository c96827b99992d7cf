//! Workers and senders are stopped and started again and again under traffic, as in an upgrade. No text is lost,
//! repeated or reordered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use message::shutdown::Shutdown;
use tests::house::{Backend, Blueprint, House};
use tests::traffic::Traffic;

const TRAFFIC: Traffic = Traffic { conversations: 10, turns: 40, gap: Duration::from_millis(40) };

/// The number of restarts. It is below 20, because RabbitMQ counts a message that is given back as delivered, and takes
/// a message delivered 20 times for poison.
const RESTARTS: usize = 12;

async fn roles_come_and_go(backend: Backend) {
    let mut house = House::open(Blueprint { workers: 0, senders: 0, ..Blueprint::new(backend) }).await;
    Traffic::echo(&house);
    let texting = tokio::spawn(TRAFFIC.text(&house));
    let (mut running, mut restarts) = (Vec::new(), 0);
    while restarts < RESTARTS {
        // In one round the old ones stop before the new ones start; in the next it is the other way round.
        let leaving = std::mem::take(&mut running);
        let (before, after) = if restarts % 2 == 0 { (leaving, Vec::new()) } else { (Vec::new(), leaving) };
        before.iter().for_each(Shutdown::start);
        running = vec![house.add_worker(), house.add_sender()];
        after.iter().for_each(Shutdown::start);
        restarts += 1;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    texting.await.unwrap();
    TRAFFIC.judge(&house).await;
    house.close(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_g4_hold_while_roles_come_and_go_on_the_embedded_backend() {
    roles_come_and_go(Backend::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_g4_hold_while_roles_come_and_go_on_servers() {
    roles_come_and_go(Backend::shared_servers()).await;
}
