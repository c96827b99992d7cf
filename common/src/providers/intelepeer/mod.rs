//! IntelePeer: JSON webhooks with a shared secret in the body, JSON REST with tokens, no receipts by push.

mod body;
mod failure;
mod send;
mod token;
mod webhook;

pub use send::IntelepeerCarrier;
pub use webhook::IntelepeerWebhook;
