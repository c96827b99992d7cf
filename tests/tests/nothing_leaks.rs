//! G7: no log line, metric or error body contains a secret, message text or whole phone number, whatever fails. This
//! test has its own process, because it reads every log line of the process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::rabbitmq::RabbitMq;
use broker::{Broker as _, Destination, Outgoing, Stage, Topology};
use message::Envelope;
use simulator::{Answer, Fault, Route};
use tests::house::{Backend, Blueprint, House, Provider};
use tests::{samples, servers};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl io::Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Heard {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

const SECRETS: [&str; 12] = [
    "simulated-twilio-token",
    "simulated-intelepeer-secret",
    "simulated-intelepeer-token",
    "simulated-intelepeer-password",
    "simulated-watsonx-apikey",
    "3035550177",
    "2125550100",
    "2125550199",
    "my account number is",
    // A single word of a text, a variable of the assistant's session, and the assistant's words about it.
    "zanzibar",
    "contextcanary",
    "says the assistant",
];

#[tokio::test]
async fn g7_nothing_leaks() {
    let heard = Heard::default();
    // All logs that an operator can ask for. The simulator plays the outside world, so its own log lines are left out.
    let filter = operations::logs::filter("trace,simulator=off");
    let lines = fmt::layer().with_ansi(false).with_writer(heard.clone());
    tracing_subscriber::registry().with(filter).with(lines).init();
    let mut told = String::new();
    for backend in [Backend::Embedded, Backend::shared_servers()] {
        for provider in [Provider::Twilio, Provider::Intelepeer] {
            told.push_str(&say_everything(backend.clone(), provider).await);
        }
    }
    publish_what_nobody_takes().await;
    let logged = String::from_utf8(heard.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("message dead-lettered"), "the logs were not heard");
    for secret in SECRETS {
        for (place, text) in [("a log line", &logged), ("metrics, an error or a dead letter", &told)] {
            let line = text.lines().find(|line| line.to_lowercase().contains(secret));
            assert_eq!(line, None, "{secret:?} is in {place}");
        }
    }
}

/// Runs a good turn, a failing assistant, failing sends and refused webhooks. Returns the metrics and the error bodies.
async fn say_everything(backend: Backend, provider: Provider) -> String {
    let mut blueprint = Blueprint { provider, ..Blueprint::new(backend) };
    blueprint.options.failure_message = "later, please".to_owned();
    let house = House::open(blueprint).await;
    let customer = "+13035550177";
    let variables =
        serde_json::json!({ "skills": { "main skill": { "user_defined": { "account": "contextcanary" } } } });
    house
        .simulator
        .assistant()
        .answer_with(move |_| Answer::text("my account number is a secret too").with_context(variables.clone()));
    house.text(customer, "my account number is 12345").await;
    house.replies(customer, 1).await;
    let send = match provider {
        Provider::Twilio => Route::TwilioSend,
        Provider::Intelepeer => Route::IntelepeerSend,
    };
    let refusal =
        r#"{"code":21211,"message":"The 'To' number +13035550177 is not valid: my account number is","status":400}"#;
    for fault in [Fault::status_with_body(400, refusal), Fault::status(500), Fault::wrong_json(), Fault::DropBefore] {
        house.simulator.fail(send, fault);
    }
    house.text(customer, "my account number is refused").await;
    house.await_depths(|depths| depths.dead == 1).await;
    let complaint = r#"{"error":"my account number is not valid input","code":400}"#;
    house.simulator.fail(Route::AssistantMessage, Fault::status_with_body(400, complaint));
    house.text(customer, "my account number is bad").await;
    house.await_depths(|depths| depths.dead == 2).await;
    // Errors that repeat one word of the text, or a part of the session that was not in any text.
    for (dead, (text, echoed)) in (3..).zip([("to Zanzibar", "Zanzibar"), ("hello", "contextcanary of account 4711")]) {
        let echo =
            format!(r#"{{"error":"{echoed} says the assistant","errors":[{{"message":"{echoed}"}}],"code":400}}"#);
        house.simulator.fail(Route::AssistantMessage, Fault::status_with_body(400, &echo));
        house.text(customer, text).await;
        house.await_depths(|depths| depths.dead == dead).await;
    }
    let shown = dead_letters_as_shown(&house).await;
    assert!(shown.matches("assistant_refused").count() >= 3, "{shown}");

    let client = providers::http_client::client(Duration::from_secs(30)).unwrap();
    let url = format!("{}/webhooks/support/messages", house.url);
    let forged = client.post(url).body("From=%2B13035550177&Body=my account number is").send().await.unwrap();
    assert!(forged.status().is_client_error());
    let metrics = client.get(format!("{}/metrics", house.operations_url)).send().await.unwrap();
    format!("{shown}\n{}\n{}\n", forged.text().await.unwrap(), metrics.text().await.unwrap())
}

/// All that may be shown of a dead letter.
async fn dead_letters_as_shown(house: &House) -> String {
    let mut letters = house.dead_letters().open(None).await.unwrap();
    let mut shown = String::new();
    while let Some(letter) = letters.next().await.unwrap() {
        let envelope = Envelope::decode(&letter.payload).unwrap();
        shown.push_str(&format!("{} {} {:?} {envelope:?}\n", letter.reason, letter.detail, envelope.attempts));
        let headers = letter.headers.iter().filter(|(name, _)| name != "traceparent");
        shown.extend(headers.map(|(name, value)| format!("{name}: {value}\n")));
    }
    letters.close().await;
    shown
}

/// Publishes a message that the broker returns as unroutable, because its queue was deleted.
async fn publish_what_nobody_takes() {
    let topology = Topology::new(format!("leaks-{}", uuid::Uuid::new_v4().simple()), 1);
    let broker = RabbitMq::new(vec![servers::shared_amqp_url().into()], topology.clone());
    let message = samples::text_from(1, 1, "my account number is 999");
    let outgoing = [Outgoing::new(Destination::Work(Stage::Inbound), &message)];
    let published = async {
        while broker.publish(&outgoing).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(tests::house::DEADLINE, published).await.expect("the broker takes it");
    let connection = lapin::Connection::connect(servers::shared_amqp_url(), lapin::ConnectionProperties::default());
    let channel = connection.await.unwrap().create_channel().await.unwrap();
    let queue = topology.queue(Stage::Inbound, 0);
    channel.queue_delete(queue.as_str().into(), lapin::options::QueueDeleteOptions::default()).await.unwrap();
    broker.publish(&outgoing).await.expect_err("nobody takes it");
}
