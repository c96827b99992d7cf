//! A witness: a receipt that names one of our parts proves that the provider took that part. The worker writes it down
//! where the sender looks when it does not know how a send ended.

use message::{ConversationKey, MessageId};

use crate::{Expect, Key, LEDGERS_REMEMBER, Record, Write};

/// What receipts say of `part` lies in this scope: the part's own, because a receipt may name any sender, or none.
#[must_use]
pub fn scope(part: MessageId) -> String {
    format!("part/{part}")
}

/// Where the witness of `part` is kept.
#[must_use]
pub fn key(part: MessageId) -> Key {
    Key::new(scope(part), "witness")
}

/// Where earlier releases kept it: with the conversation that the receipt seemed to be of.
#[must_use]
pub fn earlier_key(conversation: ConversationKey, part: MessageId) -> Key {
    Key::new(conversation.to_hex(), format!("witness/{part}"))
}

/// Writes down that the provider took `part` under the name `provider_id`. A fact, so whatever was there may go.
#[must_use]
pub fn write(part: MessageId, provider_id: &str) -> Write {
    Write::put(key(part), Expect::Anything, provider_id.as_bytes().to_vec(), LEDGERS_REMEMBER)
}

/// The provider's name for the part, from the record at [`key`].
#[must_use]
pub fn read(record: &Record) -> Option<String> {
    String::from_utf8(record.value.to_vec()).ok()
}
