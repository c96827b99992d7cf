//! What `switchboard check-config` prints: every problem, or what the configuration says in short and what
//! is suspicious in it.

use std::iter;

use broker::DEFAULT_PARTITIONS;
use integration::{AssistantSettings, Integration};
use providers::ProviderSettings;
use secrecy::ExposeSecret as _;

use crate::reader::address;
use crate::{BrokerConfig, BrokerUrl, Config, Problems, StoreUrl};

/// Makes Twilio retry a webhook when we cannot be reached or answer with a server error, for the longest time that
/// Twilio allows: <https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides>.
const TWILIO_RETRIES: &str = "#rc=3&rp=ct,rt,5xx&rt=4000";

/// Returns what a person should read about a configuration. It holds no secret and no whole phone number, and ends with
/// a newline.
#[must_use]
pub fn report(result: &Result<Config, Problems>) -> String {
    match result {
        Ok(config) => summary(config),
        Err(problems) => format!("{problems}\n"),
    }
}

fn summary(config: &Config) -> String {
    let mut lines = vec![
        "the configuration is good".to_owned(),
        String::new(),
        format!("data         {}", config.data_dir.display()),
        format!("broker       {}", broker(&config.broker)),
        format!("store        {}", store(&config.store.url)),
        format!("ingress      {}, known as {}", config.ingress.listen, known_as(config)),
        format!("worker       {} turns at a time", config.worker.concurrency),
        format!("sender       {} provider calls at a time", config.sender.concurrency),
        format!("operations   {}", config.operations.listen),
    ];
    if config.integrations.iter().next().is_none() {
        lines.extend([String::new(), "no integration: nobody can text with anything yet".to_owned()]);
    }
    for integration in config.integrations.iter() {
        lines.push(String::new());
        lines.extend(about(integration, config));
    }
    if !config.remarks.is_empty() {
        lines.extend([String::new(), "remarks".to_owned()]);
        lines.extend(config.remarks.iter().map(|remark| format!("    {remark}")));
    }
    lines.join("\n") + "\n"
}

fn about(integration: &Integration, config: &Config) -> Vec<String> {
    let numbers: Vec<String> = integration.numbers.iter().map(ToString::to_string).collect();
    let numbers = if numbers.is_empty() { "any number".to_owned() } else { numbers.join(", ") };
    let webhook = format!("{}/webhooks/{}/messages", public_url(config), integration.id);
    let hint = match integration.provider {
        ProviderSettings::Twilio(_) => format!("{webhook}{TWILIO_RETRIES}"),
        ProviderSettings::Intelepeer(_) => webhook,
    };
    vec![
        format!("integration \"{}\"", integration.id),
        format!("    provider   {}, {numbers}", integration.provider.name()),
        format!("    assistant  {}", assistant(&integration.assistant)),
        format!("    webhook    {hint}"),
        format!("               (paste it at {}, for incoming messages, POST)", integration.provider.name()),
    ]
}

fn assistant(settings: &AssistantSettings) -> String {
    match settings {
        AssistantSettings::Watsonx(watsonx) => {
            let urls: Vec<&str> = watsonx.locations.iter().map(|location| location.url.as_str()).collect();
            format!("watsonx at {}", urls.join(", then "))
        }
        AssistantSettings::Scripted(scripted) => scripted
            .file
            .as_ref()
            .map_or_else(|| "scripted, built in".to_owned(), |file| format!("scripted, {}", file.display())),
    }
}

fn broker(config: &BrokerConfig) -> String {
    match &config.url {
        BrokerUrl::Embedded => "embedded".to_owned(),
        BrokerUrl::Amqp(nodes) => {
            let nodes: Vec<String> = nodes.iter().map(|node| address::masked(node.expose_secret())).collect();
            let partitions = match config.partitions {
                Some(partitions) => partitions.to_string(),
                None => format!("{DEFAULT_PARTITIONS} (or as many as are in force)"),
            };
            format!("RabbitMQ at {}, {partitions} partitions", nodes.join(", "))
        }
    }
}

fn store(url: &StoreUrl) -> String {
    match url {
        StoreUrl::Embedded => "embedded".to_owned(),
        StoreUrl::Redis(url) => format!("Redis at {}", address::masked(url.expose_secret())),
    }
}

fn public_url(config: &Config) -> &str {
    config.ingress.public_url().unwrap_or("(set ingress.public_url)")
}

fn known_as(config: &Config) -> String {
    let others = config.ingress.public_urls.get(1..).unwrap_or_default();
    let others = others.iter().map(|url| format!(", also as {url}"));
    iter::once(public_url(config).to_owned()).chain(others).collect()
}
