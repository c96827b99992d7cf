//! The watsonx client against the simulated service, which refuses what the real one refuses.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers are tests too")]

mod auth;
mod failures;
mod locations;
mod sessions;
mod stand;
