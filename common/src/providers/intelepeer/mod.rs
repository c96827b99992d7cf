//! IntelePeer: JSON webhooks with a shared secret in the body, JSON REST with tokens, no receipts by push.

mod webhook;

pub use webhook::IntelepeerWebhook;
