//! A witness: a receipt that names one of our parts proves that the provider took that part. The worker writes it down
//! where the sender looks when it does not know how a send ended.

use std::time::Duration;

use crate::message::{ConversationKey, MessageId};
use crate::store::{Expect, Key, Record, Write};

/// As long as the send ledger remembers.
const TTL: Duration = Duration::from_secs(72 * 3600);

/// Where the witness of `part` is kept: in its conversation's scope, so that it is read and written with what else is
/// known of the part.
#[must_use]
pub fn key(conversation: ConversationKey, part: MessageId) -> Key {
    Key::new(conversation.to_hex(), format!("witness/{part}"))
}

/// Writes down that the provider took `part` under the name `provider_id`. A fact, so whatever was there may go.
#[must_use]
pub fn write(conversation: ConversationKey, part: MessageId, provider_id: &str) -> Write {
    Write::put(key(conversation, part), Expect::Anything, provider_id.as_bytes().to_vec(), TTL)
}

/// The provider's name for the part, from the record at [`key`].
#[must_use]
pub fn read(record: &Record) -> Option<String> {
    String::from_utf8(record.value.to_vec()).ok()
}
