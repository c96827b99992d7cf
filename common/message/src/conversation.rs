//! A conversation: one customer number with one of our numbers on one integration. Its key decides order.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Address, IntegrationId};

/// The two ends of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conversation {
    /// The customer's number.
    pub customer: Address,
    /// Our number, which the customer texts.
    pub ours: Address,
}

impl Conversation {
    /// The key of this conversation on `integration`.
    #[must_use]
    pub fn key(&self, integration: &IntegrationId) -> ConversationKey {
        let mut hash = Sha256::new();
        for field in [integration.as_str(), self.customer.expose(), self.ours.expose()] {
            hash.update(field.as_bytes());
            hash.update([0]);
        }
        let digest = hash.finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        ConversationKey(key)
    }
}

/// A stable 128-bit name of a conversation; equal on every machine and in every release.
///
/// It is a plain hash of phone numbers, so they can be recovered by guessing: it names records and queues, and stays
/// out of logs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConversationKey([u8; 16]);

impl ConversationKey {
    /// The partition of this conversation among `partitions` (at least 1).
    #[must_use]
    pub fn partition(self, partitions: u16) -> u16 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        let hash = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        u16::try_from(hash % u64::from(partitions.max(1))).unwrap_or_default()
    }

    /// A key that no conversation has. It belongs to `partition` whenever there are more than that many partitions.
    #[must_use]
    pub fn of_partition(partition: u16) -> Self {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&u64::from(partition).to_be_bytes());
        Self(key)
    }

    /// The key as 32 hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// Reads a key from 32 hexadecimal digits; `None` for any other text.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut key = [0; 16];
        hex::decode_to_slice(text, &mut key).ok()?;
        Some(Self(key))
    }
}

impl fmt::Debug for ConversationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConversationKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_never_changes_between_releases() {
        let conversation = Conversation {
            customer: Address::parse("+13035550199").unwrap(),
            ours: Address::parse("+17205550100").unwrap(),
        };
        let key = conversation.key(&IntegrationId::parse("support").unwrap());
        assert_eq!(key.to_hex(), "2570a818286cb81db434fbeca103aea8");
        assert_eq!(ConversationKey::from_hex(&key.to_hex()), Some(key));
        assert_eq!(key.partition(64), 29);
    }
}
