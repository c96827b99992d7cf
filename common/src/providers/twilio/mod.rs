//! Twilio Programmable Messaging: signed form webhooks, form-encoded REST, status callbacks.

mod failure;
mod form;
mod send;
mod signature;
mod webhook;

pub use send::TwilioCarrier;
pub use webhook::TwilioWebhook;
