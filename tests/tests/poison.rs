//! G5: a message that kills its process ends in the dead letters after a bounded number of deaths, and no other message
//! does. Stopping in good order costs no message an attempt. The tests use real processes that really die, on both
//! backends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use broker::rabbitmq::RabbitMq;
use broker::{Broker, Depths, Destination, Outgoing, Stage, Topology};
use embedded::Database;
use embedded::EmbeddedBroker;
use message::clock::Clock;
use message::{Body, ConversationKey, Envelope};
use tests::conformance::{DEADLINE, WATCH};
use tests::samples::text_from;
use tests::servers::{shared_amqp_url, shared_redis_url};
use tokio::time::{sleep, timeout};

const CUSTOMERS: u16 = 40;
const TEXTS: u32 = 5;
const MOST_DEATHS: usize = 6;
const RESTARTS: usize = 30;

/// The backend of a process, as its arguments name it.
struct Place(Vec<String>);

impl Place {
    fn embedded(dir: &Path) -> Self {
        Self(vec![dir.display().to_string()])
    }

    async fn servers() -> Self {
        let urls = tokio::task::spawn_blocking(|| (shared_amqp_url().to_owned(), shared_redis_url().to_owned()));
        let (amqp, redis) = urls.await.unwrap();
        Self(vec![amqp, redis, format!("test-{}", uuid::Uuid::new_v4().simple())])
    }

    /// A broker on the queues. Only one process can have the embedded file open.
    fn broker(&self) -> Arc<dyn Broker> {
        match &self.0[..] {
            [dir] => Arc::new(EmbeddedBroker::new(Database::open(Path::new(dir)).unwrap(), Clock::system())),
            [amqp, _, prefix] => Arc::new(RabbitMq::new(vec![amqp.clone().into()], Topology::new(prefix.as_str(), 4))),
            _ => panic!("no such place"),
        }
    }

    async fn publish(&self, messages: &[Envelope]) {
        let broker = self.broker();
        let outgoing: Vec<_> =
            messages.iter().map(|one| Outgoing::new(Destination::Work(Stage::Inbound), one)).collect();
        let published = async {
            while broker.publish(&outgoing).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(DEADLINE, published).await.expect("the broker comes up");
    }

    async fn depths(&self) -> Depths {
        let broker = self.broker();
        let depths = async {
            loop {
                match broker.depths().await {
                    Ok(depths) => break depths,
                    Err(_) => sleep(Duration::from_millis(50)).await,
                }
            }
        };
        timeout(DEADLINE, depths).await.expect("the broker comes up")
    }

    /// Runs a process until it ends.
    async fn run(&self, mode: &str) -> ExitStatus {
        let mut command = Command::new(env!("CARGO_BIN_EXE_work_until_crash"));
        command.arg(mode).args(&self.0);
        tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap()
    }

    /// Takes the answered texts off their queue. Returns the numbers of each customer, in the order in which each first
    /// came.
    async fn answered(&self) -> BTreeMap<ConversationKey, Vec<u32>> {
        let broker = self.broker();
        let mut subscription = broker.subscribe(Stage::Outbound, 64);
        let (mut seen, mut numbers) = (BTreeSet::new(), BTreeMap::<_, Vec<u32>>::new());
        let mut patience = DEADLINE;
        while let Ok(delivery) = timeout(patience, subscription.next()).await {
            delivery.settle(&[]).await.unwrap();
            let envelope = Envelope::decode(&delivery.payload).unwrap();
            if seen.insert(envelope.id) {
                numbers.entry(envelope.key()).or_default().push(number_of(&envelope));
            }
            patience = WATCH;
        }
        subscription.close().await;
        numbers
    }
}

fn number_of(envelope: &Envelope) -> u32 {
    let Body::Inbound(text) = &envelope.body else { unreachable!("only texts were published") };
    text.provider_message_id.rsplit_once('-').unwrap().1.parse().unwrap()
}

/// The texts of all customers, taken in turn. The second text of customer 7 kills the process.
fn texts(poison: &str) -> Vec<Envelope> {
    let says = |customer, number| if (customer, number) == (7, 1) { poison } else { "hello" };
    let round = |number| (0..CUSTOMERS).map(move |customer| text_from(customer, number, says(customer, number)));
    (0..TEXTS).flat_map(round).collect()
}

async fn a_poison_text_is_set_aside_after_few_deaths_and_nothing_else_is(place: Place) {
    let texts = texts("poison");
    place.publish(&texts).await;
    let mut deaths = 0;
    while !place.run("answer").await.success() {
        deaths += 1;
        assert!(deaths <= MOST_DEATHS, "the process dies of it again and again");
    }
    assert!(deaths > 1, "it died {deaths} times of a poison text");
    assert_eq!(place.depths().await.dead, 1);
    let answered = place.answered().await;
    for customer in 0..CUSTOMERS {
        let wanted: Vec<u32> = (0..TEXTS).filter(|number| (customer, *number) != (7, 1)).collect();
        assert_eq!(answered[&tests::samples::key(customer)], wanted, "customer {customer}");
    }
}

async fn what_is_given_back_again_and_again_is_handled_in_the_end(place: Place) {
    place.publish(&texts("hello")).await;
    for restart in 0..RESTARTS {
        assert!(place.run("hang").await.success(), "restart {restart}");
    }
    assert!(place.run("answer").await.success());
    assert_eq!(place.depths().await.dead, 0);
    let answered = place.answered().await;
    assert_eq!(answered.len(), usize::from(CUSTOMERS));
    assert!(answered.values().all(|numbers| numbers.iter().copied().eq(0..TEXTS)), "{answered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_a_poison_text_is_set_aside_after_few_deaths_and_nothing_else_is_embedded() {
    let dir = tempfile::tempdir().unwrap();
    a_poison_text_is_set_aside_after_few_deaths_and_nothing_else_is(Place::embedded(dir.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_a_poison_text_is_set_aside_after_few_deaths_and_nothing_else_is_on_servers() {
    a_poison_text_is_set_aside_after_few_deaths_and_nothing_else_is(Place::servers().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_what_is_given_back_again_and_again_is_handled_in_the_end_embedded() {
    let dir = tempfile::tempdir().unwrap();
    what_is_given_back_again_and_again_is_handled_in_the_end(Place::embedded(dir.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_what_is_given_back_again_and_again_is_handled_in_the_end_on_servers() {
    what_is_given_back_again_and_again_is_handled_in_the_end(Place::servers().await).await;
}
