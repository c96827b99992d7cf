//! Twilio Programmable Messaging: signed form webhooks, form-encoded REST, status callbacks.

pub(super) mod failure;
#[cfg(feature = "send")]
mod find;
mod form;
#[cfg(feature = "send")]
mod send;
mod settings;
mod signature;
mod webhook;
#[cfg(feature = "send")]
mod words;

#[cfg(feature = "send")]
pub use send::TwilioCarrier;
pub use settings::{TwilioApiKey, TwilioSettings};
pub use webhook::TwilioWebhook;
