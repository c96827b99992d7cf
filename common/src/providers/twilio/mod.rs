//! Twilio Programmable Messaging: signed form webhooks, form-encoded REST, status callbacks.

mod form;
mod signature;
mod webhook;

pub use webhook::TwilioWebhook;
