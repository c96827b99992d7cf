//! Publishes texts to the embedded broker in the given directory until it is killed.
//!
//! It prints the id of each text after its publish returned, so a test can tell which texts must have survived. At the
//! same time it moves texts from inbound to outbound, as workers do.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use broker::{Broker as _, Destination, Outgoing, Stage};
use embedded::Database;
use embedded::EmbeddedBroker;
use message::Envelope;
use message::clock::Clock;
use tests::samples::text_from;

const PUBLISHERS: u16 = 8;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (dir, first) = (arguments.next().unwrap(), arguments.next().unwrap().parse().unwrap());
    let broker = Arc::new(EmbeddedBroker::new(Database::open(Path::new(&dir)).unwrap(), Clock::system()));
    tokio::spawn(move_on(Arc::clone(&broker)));
    let publishers = (0..PUBLISHERS).map(|customer| tokio::spawn(publish(Arc::clone(&broker), customer, first)));
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
}

/// Publishes `customer`'s texts one after the other, from number `first` on.
async fn publish(broker: Arc<EmbeddedBroker>, customer: u16, first: u32) {
    for number in first.. {
        let envelope = text_from(customer, number, "still there?");
        broker.publish(&[Outgoing::new(Destination::Work(Stage::Inbound), &envelope)]).await.unwrap();
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{}", envelope.id).unwrap();
        stdout.flush().unwrap();
    }
}

/// Settles every inbound text with itself as its outbound effect.
async fn move_on(broker: Arc<EmbeddedBroker>) {
    let mut subscription = broker.subscribe(Stage::Inbound, 1);
    loop {
        let delivery = subscription.next().await;
        let envelope = Envelope::decode(&delivery.payload).unwrap();
        delivery.settle(&[Outgoing::new(Destination::Work(Stage::Outbound), &envelope)]).await.unwrap();
    }
}
