//! Twilio Programmable Messaging: signed form webhooks, form-encoded REST, status callbacks.

pub(super) mod failure;
mod find;
mod form;
mod send;
mod signature;
mod webhook;
mod words;

pub use send::TwilioCarrier;
pub use webhook::TwilioWebhook;
