//! The suites that define the contract of an adapter.
//!
//! Each case is a function over a fixture, which gives it empty queues or records of its own. A test file for each
//! adapter runs all cases through [`broker_suite!`](crate::broker_suite) and [`store_suite!`](crate::store_suite), so
//! no case can be left out for one of them. A case fails by panicking. No case waits longer than [`DEADLINE`] for an
//! event.

pub mod broker;
pub mod dead_letters;
pub mod store;

use std::time::Duration;

/// The longest wait of a case for an event that must happen.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The time for which a case watches that an event does *not* happen.
pub const WATCH: Duration = Duration::from_millis(500);
