//! Reads what concerns the services and the two ports.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use integration::Integration;
use secrecy::{ExposeSecret as _, SecretString};

use super::integrations;
use crate::reader::address;
use crate::reader::entry::{Entry, split_at_commas};
use crate::reader::reach;
use crate::reader::{KeyPath, Section};
use crate::{
    BrokerConfig, BrokerUrl, Config, IngressConfig, OperationsConfig, SenderConfig, StoreConfig, StoreUrl, WorkerConfig,
};

const EMBEDDED: &str = "embedded";
/// The upper bound of each concurrency: more than one process can use.
const MOST_AT_A_TIME: usize = 65_536;

/// Reads the whole configuration; what does not fit is reported and replaced by its default.
pub(crate) fn config(mut root: Section<'_>) -> Config {
    let defaults = Config::default();
    let data_dir = root.take("data_dir").and_then(|entry| entry.text("the path of a directory")).map(PathBuf::from);
    let grace_range = Duration::ZERO..=Duration::from_secs(3600);
    let shutdown_grace = root.take("shutdown_grace").and_then(|entry| entry.duration(grace_range));
    let config = Config {
        data_dir: data_dir.unwrap_or(defaults.data_dir),
        broker: broker(root.section("broker")),
        store: store(root.section("store")),
        ingress: ingress(root.section("ingress")),
        worker: worker(root.section("worker")),
        sender: sender(root.section("sender")),
        operations: operations(root.section("operations")),
        shutdown_grace: shutdown_grace.unwrap_or(defaults.shutdown_grace),
        integrations: integrations::read(root.sections("integrations")),
        remarks: Vec::new(),
    };
    refuse_one_port_for_two(&root.place, &config);
    remark_on_unreachable(&root.place, &config);
    root.finish();
    config
}

fn broker(mut section: Section<'_>) -> BrokerConfig {
    let defaults = BrokerConfig::default();
    let config = BrokerConfig {
        url: section.take("url").and_then(broker_url).unwrap_or(defaults.url),
        prefix: section.take("prefix").and_then(prefix).unwrap_or(defaults.prefix),
        partitions: section.take("partitions").and_then(|e| e.integer(1..=1024)),
        max_length: section
            .take("max_length")
            .and_then(|e| e.integer(1..=2_000_000_000))
            .unwrap_or(defaults.max_length),
    };
    section.finish();
    config
}

fn broker_url(entry: Entry<'_>) -> Option<BrokerUrl> {
    if entry.value.as_str() == Some(EMBEDDED) {
        return Some(BrokerUrl::Embedded);
    }
    Some(BrokerUrl::Amqp(entry.secret_addresses().into_iter().filter_map(node).collect()))
}

fn node(entry: Entry<'_>) -> Option<SecretString> {
    let (place, clients) = (entry.place.clone(), entry.place.context.clients);
    let url = secret_address(entry, |text| address::amqp(text, clients))?;
    if address::names_the_empty_vhost(url.expose_secret()) {
        let mend = "leave the slash away for the vhost that is named `/`, or write the name of another one behind it";
        place.remark("ends with a slash, which names a vhost without a name", mend);
    }
    Some(url)
}

fn store(mut section: Section<'_>) -> StoreConfig {
    let defaults = StoreConfig::default();
    let config = StoreConfig {
        url: section.take("url").and_then(store_url).unwrap_or(defaults.url),
        prefix: section.take("prefix").and_then(prefix).unwrap_or(defaults.prefix),
    };
    section.finish();
    config
}

fn store_url(entry: Entry<'_>) -> Option<StoreUrl> {
    if entry.value.as_str() == Some(EMBEDDED) {
        return Some(StoreUrl::Embedded);
    }
    let clients = entry.place.context.clients;
    secret_address(entry, |text| address::redis(text, clients)).map(StoreUrl::Redis)
}

/// An address that may hold a password, so it may refer to a variable or a file, as a secret does.
fn secret_address(
    entry: Entry<'_>,
    parse: impl Fn(&str) -> Result<String, address::Complaint>,
) -> Option<SecretString> {
    let place = entry.place.clone();
    let text = entry.hidden_text()?;
    place.address(&text, parse).map(SecretString::from)
}

fn prefix(entry: Entry<'_>) -> Option<String> {
    entry.parsed("1 to 64 letters, digits, '.', '-' or '_'", |text| {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(is_allowed);
        if fits { Ok(text.to_owned()) } else { Err("leave the other characters out".to_owned()) }
    })
}

fn ingress(mut section: Section<'_>) -> IngressConfig {
    let config = IngressConfig {
        listen: section.take("listen").and_then(socket_address).unwrap_or(IngressConfig::default().listen),
        public_urls: section.take("public_url").map(public_urls).unwrap_or_default(),
        spool_limit_bytes: section
            .take("spool_limit")
            .and_then(Entry::size)
            .unwrap_or(IngressConfig::default().spool_limit_bytes),
    };
    section.finish();
    config
}

fn public_urls(entry: Entry<'_>) -> Vec<String> {
    let split = |text: &str| text.contains(',').then(|| split_at_commas(text));
    let read = |entry: Entry<'_>| {
        let place = entry.place.clone();
        let url = entry.address(address::public)?;
        if reach::is_plain_and_remote(&url) {
            place.remark("is plain http, so anybody on the way can read the texts", "use https");
        }
        Some(url)
    };
    entry
        .one_or_more(|_| "write the URL that the provider sees".to_owned(), split)
        .into_iter()
        .filter_map(read)
        .collect()
}

fn worker(mut section: Section<'_>) -> WorkerConfig {
    let concurrency = section.take("concurrency").and_then(|entry| entry.integer(1..=MOST_AT_A_TIME));
    section.finish();
    WorkerConfig { concurrency: concurrency.unwrap_or(WorkerConfig::default().concurrency) }
}

fn sender(mut section: Section<'_>) -> SenderConfig {
    let concurrency = section.take("concurrency").and_then(|entry| entry.integer(1..=MOST_AT_A_TIME));
    section.finish();
    SenderConfig { concurrency: concurrency.unwrap_or(SenderConfig::default().concurrency) }
}

fn operations(mut section: Section<'_>) -> OperationsConfig {
    let defaults = OperationsConfig::default();
    let dead_range = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
    let config = OperationsConfig {
        listen: section.take("listen").and_then(socket_address).unwrap_or(defaults.listen),
        dead_after: section
            .take("dead_after")
            .and_then(|entry| entry.duration(dead_range))
            .unwrap_or(defaults.dead_after),
    };
    section.finish();
    config
}

fn socket_address(entry: Entry<'_>) -> Option<SocketAddr> {
    entry.parsed("an IP address and a port, such as \"0.0.0.0:8080\"", |text| {
        let port = text.rsplit_once(':').map_or(text, |(_, port)| port).parse::<u16>();
        let host = if text.starts_with("localhost") { "127.0.0.1" } else { "0.0.0.0" };
        let mend = port.map_or_else(
            |_| "write an address, a colon and a port from 1 to 65535; [::]:8080 for IPv6".to_owned(),
            |port| format!("write \"{host}:{port}\", or another IP address of this machine"),
        );
        text.parse().map_err(|_| mend)
    })
}

/// Remarks on public URLs that the Internet cannot reach: providers post texts and receipts there. A simulator on this
/// machine reaches every address that we reach, so it needs no remark.
fn remark_on_unreachable(root: &KeyPath<'_>, config: &Config) {
    let is_simulated = |one: &Arc<Integration>| reach::is_this_machine(one.provider.base_url());
    let mut integrations = config.integrations.iter().peekable();
    if integrations.peek().is_some() && integrations.all(is_simulated) {
        return;
    }
    for url in config.ingress.public_urls.iter().filter(|url| !reach::is_reachable_from_outside(url)) {
        let found = format!("is {url}, which a provider on the Internet cannot reach");
        let mend =
            "name the host that the provider posts to; Twilio refuses to report deliveries anywhere else (21609)";
        root.key("ingress").key("public_url").remark(found, mend);
    }
}

fn refuse_one_port_for_two(root: &KeyPath<'_>, config: &Config) {
    let (ingress, operations) = (config.ingress.listen, config.operations.listen);
    let is_shared =
        ingress.ip() == operations.ip() || ingress.ip().is_unspecified() || operations.ip().is_unspecified();
    if is_shared && ingress.port() == operations.port() && ingress.port() != 0 {
        let found = format!("is {operations}, whose port ingress.listen has");
        root.key("operations").key("listen").problem(found, "a port of its own", "choose another port, such as 9090");
    }
}
