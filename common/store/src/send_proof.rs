//! Proof of a send, called its witness: a receipt that names one of our parts proves that the provider took that part.
//! The worker records it, and the sender looks for it when the outcome of a send is unknown.

use message::{ConversationKey, MessageId};

use crate::{Expect, Key, LEDGERS_REMEMBER, Record, Write};

/// The scope of the records about `part`. It is the part's own, because a receipt may name any sender, or none.
#[must_use]
pub fn scope(part: MessageId) -> String {
    format!("part/{part}")
}

/// The key of the witness of `part`.
#[must_use]
pub fn key(part: MessageId) -> Key {
    Key::new(scope(part), "witness")
}

/// The key of the witness in earlier releases: in the scope of the conversation that the receipt seemed to belong to.
#[must_use]
pub fn earlier_key(conversation: ConversationKey, part: MessageId) -> Key {
    Key::new(conversation.to_hex(), format!("witness/{part}"))
}

/// The write that records that the provider took `part` under the name `provider_id`. It states a fact, so it replaces
/// any record.
#[must_use]
pub fn write(part: MessageId, provider_id: &str) -> Write {
    Write::put(key(part), Expect::Anything, provider_id.as_bytes().to_vec(), LEDGERS_REMEMBER)
}

/// The provider's name for the part, from the record at [`key`]; `None` if that is not UTF-8.
#[must_use]
pub fn read(record: &Record) -> Option<String> {
    String::from_utf8(record.value.to_vec()).ok()
}
