//! Works on inbound texts with the real run loop. On the text "poison" it dies as of a stack overflow: at once, with
//! all messages it holds.
//!
//! `answer`: moves each text to outbound, and stops in good order once no texts are left. `hang`: never finishes a
//! text, and is stopped in good order once it handles eight. Its grace period is over at once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::rabbitmq::RabbitMq;
use broker::{Broker, Destination, Outgoing, Stage, Topology};
use embedded::EmbeddedBroker;
use embedded::{Database, EmbeddedStore};
use message::clock::Clock;
use message::shutdown::Shutdown;
use message::{Body, Envelope};
use store::Store;
use store::redis::RedisStore;
use tokio::sync::watch;
use work::{Decision, Handler, Outcome, Progress, RunOptions, run};

const CONCURRENCY: usize = 8;
/// The time of an answer. It is long enough that other texts are being handled when a process dies.
const ANSWER: Duration = Duration::from_millis(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);

struct Worker {
    hangs: bool,
    begun: watch::Sender<usize>,
}

#[async_trait]
impl Handler for Worker {
    async fn handle(&self, envelope: &mut Envelope) -> Decision {
        let Body::Inbound(inbound) = &envelope.body else { panic!("not a text") };
        self.begun.send_modify(|begun| *begun += 1);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if inbound.text.expose() == "poison" {
            std::process::abort();
        }
        tokio::time::sleep(ANSWER).await;
        let effect = Outgoing::new(Destination::Work(Stage::Outbound), envelope);
        Decision::done(Outcome::Answered).publishing(vec![effect])
    }
}

fn open(arguments: &[String]) -> (Arc<dyn Broker>, Arc<dyn Store>) {
    match arguments {
        [dir] => {
            let database = Database::open(Path::new(dir)).unwrap();
            let broker = EmbeddedBroker::new(database.clone(), Clock::system());
            (Arc::new(broker), Arc::new(EmbeddedStore::new(database, Clock::system())))
        }
        [amqp, redis, prefix] => {
            let broker = RabbitMq::new(vec![amqp.clone().into()], Topology::new(prefix.as_str(), 4));
            (Arc::new(broker), Arc::new(RedisStore::new(&redis.clone().into(), prefix).unwrap()))
        }
        _ => panic!("give a directory, or the URLs of RabbitMQ and Redis and a prefix"),
    }
}

/// Returns once no messages were held or waiting for several checks in a row.
async fn idle(broker: &dyn Broker, progress: &Progress) {
    let mut looks = 0;
    while looks < 5 {
        let waiting = broker.depths().await.map_or(1, |depths| depths.inbound);
        looks = if waiting == 0 && progress.held().messages == 0 { looks + 1 } else { 0 };
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mode, place) = arguments.split_first().unwrap();
    let (broker, store) = open(place);
    let (begun, mut begins) = watch::channel(0);
    let worker = Arc::new(Worker { hangs: mode == "hang", begun });
    let (shutdown, progress) = (Shutdown::new(Duration::from_millis(1)), Arc::new(Progress::default()));
    let options =
        RunOptions { concurrency: CONCURRENCY, progress: progress.clone(), store: Some(store), heartbeats: None };
    let running = tokio::spawn(run(broker.clone(), Stage::Inbound, worker, options, shutdown.clone()));
    if mode == "hang" {
        begins.wait_for(|begun| *begun >= CONCURRENCY).await.unwrap();
    } else {
        idle(&*broker, &progress).await;
    }
    shutdown.start();
    running.await.unwrap();
}
