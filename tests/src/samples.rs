//! Sample conversations and envelopes for tests.

use std::path::PathBuf;

use config::Config;
use integration::{AssistantSettings, Integration, Options, ScriptedSettings};
use message::clock::Timestamp;
use message::{Address, Body, Conversation, ConversationKey, Envelope, Inbound, IntegrationId, MessageId, SCHEMA};
use providers::ProviderSettings;
use providers::twilio::TwilioSettings;
use simulator::SimulatorConfig;

/// The conversation of sample customer number `customer` (0 to 9,999).
///
/// # Panics
/// If `customer` is larger.
#[must_use]
pub fn conversation(customer: u16) -> Conversation {
    assert!(customer < 10_000, "sample customers are numbered up to 9,999");
    let number = |text: &str| Address::parse(text).expect("samples are well formed");
    Conversation::new(number(&format!("+1303555{customer:04}")), number("+17205550100"))
}

/// The key of that conversation.
#[must_use]
pub fn key(customer: u16) -> ConversationKey {
    conversation(customer).key(&integration())
}

/// Text `number` of sample customer `customer`, with the words `text`. Equal arguments give equal envelopes.
#[must_use]
pub fn text_from(customer: u16, number: u32, text: &str) -> Envelope {
    let provider_message_id = format!("SM-{customer}-{number}");
    let integration = integration();
    Envelope {
        schema: SCHEMA,
        id: MessageId::of_provider(&integration, &provider_message_id),
        integration,
        conversation: conversation(customer),
        accepted_at: Timestamp::UNIX_EPOCH,
        attempts: Vec::new(),
        replays: Vec::new(),
        trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        body: Body::Inbound(Inbound { provider_message_id, text: text.into(), media: Vec::new(), joined: Vec::new() }),
    }
}

fn integration() -> IntegrationId {
    IntegrationId::parse("support").expect("samples are well formed")
}

/// The configuration of a front door at `url` for the simulator's Twilio account.
///
/// # Panics
/// Never: the sample is valid.
#[must_use]
pub fn front_door(data_dir: PathBuf, url: &str) -> Config {
    let account = SimulatorConfig::demo().twilio;
    let twilio = TwilioSettings::new(account.account_sid, vec![account.auth_token.into()]);
    let support = Integration {
        id: integration(),
        numbers: Vec::new(),
        provider: ProviderSettings::Twilio(twilio),
        assistant: AssistantSettings::Scripted(ScriptedSettings::default()),
        options: Options::default(),
    };
    let mut config = Config::embedded(data_dir, vec![support]);
    config.ingress.public_urls = vec![url.to_owned()];
    config
}
