//! The configuration of the simulated services: accounts, numbers, assistants, and the timing of their receipts.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::intelepeer::IntelepeerAccount;
use crate::journal::MessageState;
use crate::twilio::TwilioAccount;
use crate::watsonx::WatsonxInstance;

/// The configuration of a simulator.
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// The address to listen on; port 0 takes a free port.
    pub listen: SocketAddr,
    /// The base URL that clients use, without a slash at the end, if it differs from that of `listen`.
    pub public_url: Option<String>,
    /// The Twilio account.
    pub twilio: TwilioAccount,
    /// The IntelePeer customer.
    pub intelepeer: IntelepeerAccount,
    /// The watsonx Assistant instance.
    pub watsonx: WatsonxInstance,
    /// The states that an accepted text goes through, and their reports.
    pub receipts: Receipts,
    /// The most messages, requests, callbacks and turns that are kept, each. The oldest are dropped first.
    pub keep: usize,
    /// The seed of faults that strike by chance.
    pub fault_seed: u64,
}

impl SimulatorConfig {
    /// Made-up accounts with one number each, on a free port of this machine.
    #[must_use]
    pub fn demo() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            public_url: None,
            twilio: TwilioAccount::demo(),
            intelepeer: IntelepeerAccount::demo(),
            watsonx: WatsonxInstance::demo(),
            receipts: Receipts::default(),
            keep: 20_000,
            fault_seed: 1,
        }
    }
}

/// A phone number of an account, and the webhook for texts to it.
#[derive(Clone, Debug)]
pub struct Number {
    /// The number in E.164, or the provider's form of a short code.
    pub number: String,
    /// The URL to which inbound texts are posted; it can also be set later.
    pub webhook: Option<String>,
    /// The HTTP method of the webhook (Twilio only).
    pub method: WebhookMethod,
}

impl Number {
    /// A number without a webhook yet.
    #[must_use]
    pub fn new(number: impl Into<String>) -> Self {
        Self { number: number.into(), webhook: None, method: WebhookMethod::Post }
    }
}

/// The HTTP method of an inbound webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum WebhookMethod {
    /// The parameters are in the form body.
    #[default]
    Post,
    /// The parameters are in the query.
    Get,
}

/// The states an accepted text goes through, in the order in which they are reported.
#[derive(Clone, Debug)]
pub struct Receipts {
    /// The reports, one for each step. Steps can be left out, repeated or reordered at will. Without steps texts stay
    /// queued.
    pub steps: Vec<Receipt>,
    /// The pause before each step.
    pub pause: Duration,
}

impl Default for Receipts {
    /// Sent, then delivered, almost at once.
    fn default() -> Self {
        Self { steps: vec![Receipt::Sent, Receipt::Delivered], pause: Duration::from_millis(20) }
    }
}

/// One report on an accepted text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receipt {
    /// The carrier accepted the text.
    Sent,
    /// The phone received the text.
    Delivered,
    /// The carrier gave up, with the provider's error code.
    Undelivered(u32),
    /// The provider gave up, with its error code.
    Failed(u32),
}

impl Receipt {
    /// The state after this report, and its error code.
    pub(crate) fn state(self) -> (MessageState, Option<u32>) {
        match self {
            Self::Sent => (MessageState::Sent, None),
            Self::Delivered => (MessageState::Delivered, None),
            Self::Undelivered(code) => (MessageState::Undelivered, Some(code)),
            Self::Failed(code) => (MessageState::Failed, Some(code)),
        }
    }
}

/// Whether `given` is this secret, in constant time.
pub(crate) fn same_secret(secret: &SecretString, given: &str) -> bool {
    use secrecy::ExposeSecret as _;
    use subtle::ConstantTimeEq as _;
    secret.expose_secret().as_bytes().ct_eq(given.as_bytes()).into()
}
