//! Logs of a test, for whoever looks for the cause of a failure.

use operations::logs::{LogFormat, init_logs};

use crate::servers::environment;

/// Writes what `TEST_LOG` filters (as `RUST_LOG` does) to stderr; nothing unless it is set.
pub fn log_if_asked() {
    if let Some(filter) = environment("TEST_LOG") {
        init_logs(&filter, LogFormat::Text);
    }
}
