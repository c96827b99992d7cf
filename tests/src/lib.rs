//! What the tests of the whole system share: the suites that every adapter of a port passes, sample messages, private
//! servers, and a whole Switchboard in one process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod conformance;
pub mod house;
pub mod samples;
pub mod servers;
pub mod traffic;
