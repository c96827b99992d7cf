//! The messages in the queues: an [`Envelope`] around a text from a customer, a part of a reply, a receipt, or a
//! request that could not be read. Numbers and texts have types that redact themselves in `Debug`, so no log line can
//! leak one by accident.

pub mod clock;
pub mod failpoint;
pub mod failure;
pub mod retry;
pub mod shutdown;
pub mod trace;

mod address;
mod attempts;
mod conversation;
mod envelope;
mod id;
mod replay;
mod text;

pub use address::{Address, InvalidAddress};
pub use conversation::{Conversation, ConversationKey};
pub use envelope::{
    Attempt, Body, Envelope, Inbound, Joined, Media, Part, Receipt, ReceiptState, SCHEMA, Unread, Unreadable,
};
pub use id::{IntegrationId, InvalidIntegrationId, MessageId};
pub use replay::Replay;
pub use text::MessageText;
