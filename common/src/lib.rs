//! What two or more of Switchboard's services use: the messages, the two ports with their adapters, the providers,
//! configuration, and the small things (clock, retry, shutdown) that are passed in everywhere.

pub mod broker;
pub mod clock;
pub mod config;
pub mod failpoint;
pub mod failure;
pub mod http;
pub mod intake;
pub mod integration;
pub mod message;
pub mod operations;
pub mod ports;
pub mod providers;
pub mod retry;
pub mod secret;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod witness;
