//! The suites that say what an adapter of a port must do.
//!
//! Each case is a function over a fixture that gives it empty queues or records of its own. A test file for each adapter
//! runs them all through [`broker_suite!`](crate::broker_suite) and [`store_suite!`](crate::store_suite), so no case can
//! be left out for one of them. A case fails by panicking; nothing waits longer than [`DEADLINE`].

pub mod broker;
pub mod dead_letters;
pub mod store;

use std::time::Duration;

/// How long a case waits for something that must happen.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How long a case watches that something does *not* happen.
pub const WATCH: Duration = Duration::from_millis(500);
