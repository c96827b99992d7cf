//! Fills a queue with a backlog, or works on the backlog as a worker does and prints the memory it needed:
//! `work_on_backlog fill|work DIRECTORY AMQP_URL|embedded PREFIX COUNT`.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "whoever runs it sees the panic and the figure"
)]

use std::path::Path;
use std::time::Duration;

use broker::{Destination, Outgoing, Stage};
use config::{BrokerUrl, Config};
use integration::{AssistantSettings, Integration, Options, ScriptedSettings};
use message::clock::Clock;
use message::shutdown::Shutdown;
use message::{Address, Body, Conversation, Envelope, Inbound, IntegrationId, MessageId, SCHEMA};
use providers::ProviderSettings;
use providers::twilio::TwilioSettings;
use work::Ports;

/// The number of messages that are published at a time.
const BATCH: u64 = 500;
/// The time for which a worker works: long enough to hold the most messages that it ever holds.
const WORKING: Duration = Duration::from_secs(6);

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, directory, broker, prefix, count] = &arguments[..] else { panic!("see the top of the file") };
    let config = config(Path::new(directory), broker, prefix);
    let ports = ports::open(&config, Clock::system()).expect("the ports open");
    while ports.broker.check().await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    match mode.as_str() {
        "fill" => fill(&config, &ports, count.parse().expect("it is a number")).await,
        _ => work(&config, ports).await,
    }
}

fn config(directory: &Path, broker: &str, prefix: &str) -> Config {
    let twilio = TwilioSettings {
        account_sid: "AC00000000000000000000000000000000".to_owned(),
        auth_tokens: vec!["backlog".into()],
        base_url: "http://127.0.0.1:9".to_owned(),
        api_key: None,
        messaging_service_sid: None,
    };
    let integration = Integration {
        id: IntegrationId::parse("support").expect("it is an id"),
        numbers: Vec::new(),
        provider: ProviderSettings::Twilio(twilio),
        assistant: AssistantSettings::Scripted(ScriptedSettings::default()),
        options: Options::default(),
    };
    let mut config = Config::embedded(directory.to_owned(), vec![integration]);
    config.broker.max_length = 2_000_000;
    if broker != "embedded" {
        config.broker.url = BrokerUrl::Amqp(vec![broker.into()]);
        config.broker.prefix = prefix.to_owned();
        config.broker.partitions = Some(16);
    }
    config
}

async fn fill(config: &Config, ports: &Ports, count: u64) {
    let integration = &config.integrations.iter().next().expect("there is one").id;
    for first in (0..count).step_by(usize::try_from(BATCH).expect("it fits")) {
        let batch: Vec<_> = (first..count.min(first + BATCH)).map(|number| text(integration, number)).collect();
        // The retry has the same ids, so a message of a failed batch may be published twice.
        while ports.broker.publish(&batch).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The text `number`, from one of ten thousand customers.
fn text(integration: &IntegrationId, number: u64) -> Outgoing {
    let parse = |text: String| Address::parse(&text).expect("it is a number");
    let (customer, ours) = (parse(format!("+1303{:07}", number % 10_000)), parse("+17205550100".to_owned()));
    let name = format!("SM{number}");
    let inbound = Inbound {
        provider_message_id: name.clone(),
        text: "What are your opening hours, please?".into(),
        media: Vec::new(),
        joined: Vec::new(),
    };
    let envelope = Envelope {
        schema: SCHEMA,
        id: MessageId::of_provider(integration, &name),
        integration: integration.clone(),
        conversation: Conversation::new(customer, ours),
        accepted_at: Clock::system().now(),
        attempts: Vec::new(),
        replays: Vec::new(),
        trace: message::trace::new_traceparent(),
        body: Body::Inbound(inbound),
    };
    Outgoing::new(Destination::Work(Stage::Inbound), &envelope)
}

async fn work(config: &Config, ports: Ports) {
    let shutdown = Shutdown::new(Duration::from_secs(5));
    let stop = async {
        tokio::time::sleep(WORKING).await;
        shutdown.start();
    };
    let (ran, ()) = tokio::join!(worker::run(config, ports, shutdown.clone()), stop);
    ran.expect("the worker runs");
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells the peak");
    println!("{}", peak.trim().trim_end_matches(" kB"));
}
