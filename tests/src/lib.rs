//! What the tests of the whole system share: the suites that every adapter of a port passes, sample messages, and
//! private servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod conformance;
pub mod samples;
pub mod servers;
