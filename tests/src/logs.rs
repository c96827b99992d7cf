//! The logs of a test, for finding the cause of a failure.

use operations::logs::{LogFormat, init_logs};

use crate::servers::environment;

/// Writes the log lines that `TEST_LOG` selects (in the syntax of `RUST_LOG`) to stderr. Without `TEST_LOG` it writes
/// none.
pub fn log_if_asked() {
    if let Some(filter) = environment("TEST_LOG") {
        init_logs(&filter, LogFormat::Text);
    }
}
