//! IntelePeer: JSON webhooks with a shared secret in the body, JSON REST with tokens, no receipts by push.

mod body;
#[cfg(feature = "send")]
mod failure;
#[cfg(feature = "send")]
mod send;
mod settings;
#[cfg(feature = "send")]
mod token;
mod webhook;

#[cfg(feature = "send")]
pub use send::IntelepeerCarrier;
pub use settings::{IntelepeerAuth, IntelepeerSettings};
pub use webhook::IntelepeerWebhook;
