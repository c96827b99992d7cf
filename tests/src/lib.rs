//! Shared code of the system tests: the suites that every adapter of a port passes, sample messages, private servers, a
//! whole Switchboard in one process, and the fault suite on real processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod chaos;
pub mod conformance;
pub mod house;
pub mod logs;
pub mod samples;
pub mod servers;
pub mod strangers;
pub mod traffic;
