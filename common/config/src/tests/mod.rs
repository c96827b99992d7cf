//! Tests of the configuration as a whole.

mod documents;
mod environment;
mod problems;
mod remarks;
mod robustness;
mod sections;

use std::collections::BTreeMap;

use super::{Clients, Config, Problems};

/// The example in the design, for Twilio; with [`intelepeer`] for `IntelePeer`.
const WHOLE: &str = include_str!("whole.toml");

fn no_environment() -> BTreeMap<String, String> {
    BTreeMap::new()
}

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn whole_environment() -> BTreeMap<String, String> {
    environment(&[
        ("SUPPORT_TWILIO_AUTH_TOKEN", "twilio-token"),
        ("SUPPORT_INTELEPEER_SECRET", "intelepeer-secret"),
        ("SUPPORT_INTELEPEER_TOKEN", "intelepeer-token"),
        ("WATSONX_APIKEY", "watsonx-key"),
    ])
}

/// The same for the other provider.
fn intelepeer() -> String {
    let (before, rest) = WHOLE.split_once("[integrations.twilio]").unwrap();
    let (_, after) = rest.split_once("[integrations.assistant]").unwrap();
    let account = "[integrations.intelepeer]\naccount_secret = { env = \"SUPPORT_INTELEPEER_SECRET\" }\n\
        auth_token = { env = \"SUPPORT_INTELEPEER_TOKEN\" }\nbase_url = \"https://api.intelepeer.com\"\n";
    let text = format!("{before}{account}\n[integrations.assistant]{after}");
    text.replace("provider = \"twilio\"", "provider = \"intelepeer\"").replace("mms = true", "")
}

/// What the real clients understand.
pub(crate) const CLIENTS: Clients =
    Clients { amqp: broker::rabbitmq::RabbitMq::is_url, redis: store::redis::RedisStore::is_url };

fn from_toml(text: &str, environment: &BTreeMap<String, String>) -> Result<Config, Problems> {
    Config::from_toml(text, environment, CLIENTS)
}

/// The problems of `text`, each in one line: key, what was found, how to mend it.
fn problems(text: &str, environment: &BTreeMap<String, String>) -> Vec<String> {
    let line = |p: super::Problem| format!("{}: {} | {} | {}", p.key, p.found, p.expected, p.mend);
    from_toml(text, environment).err().map(Problems::into_iter).into_iter().flatten().map(line).collect()
}
