//! Names of messages and integrations. A message's id derives from its cause, so that doing the same thing twice gives
//! the same id and the ledgers recognise it.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The namespace of all ids derived here. Under another one no ledger would recognise an earlier message.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1c_4a52_7d0e_5b8a_9a3e_5357_424f_4152);

/// Names one message. Equal causes give equal ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(Uuid);

impl MessageId {
    /// The id of a message that the provider names `provider_message_id`.
    #[must_use]
    pub fn of_provider(integration: &IntegrationId, provider_message_id: &str) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("{integration}\0{provider_message_id}").as_bytes()))
    }

    /// The id of something that this message causes, such as `"part/0"`.
    #[must_use]
    pub fn derive(self, what: &str) -> Self {
        Self(Uuid::new_v5(&self.0, what.as_bytes()))
    }

    /// Reads an id as printed by `Display`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::parse_str(text).ok().map(Self)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// An integration's name: it stands in the webhook URL.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct IntegrationId(String);

/// The text cannot name an integration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an integration id is 1 to 64 lower-case letters, digits, '-' or '_'")]
pub struct InvalidIntegrationId;

impl IntegrationId {
    /// Reads an integration id: 1 to 64 lower-case letters, digits, `-` or `_`.
    ///
    /// # Errors
    /// [`InvalidIntegrationId`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidIntegrationId> {
        is_integration_id(text).then(|| Self(text.to_owned())).ok_or(InvalidIntegrationId)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_integration_id(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(is_allowed)
}

impl TryFrom<String> for IntegrationId {
    type Error = InvalidIntegrationId;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_integration_id(&text) { Ok(Self(text)) } else { Err(InvalidIntegrationId) }
    }
}

impl From<IntegrationId> for String {
    fn from(id: IntegrationId) -> Self {
        id.0
    }
}

impl fmt::Display for IntegrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
