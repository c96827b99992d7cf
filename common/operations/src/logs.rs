//! Logs on stderr.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

/// The highest levels that these crates may log at, whatever the filter asks for: at `WARN` lapin logs unroutable
/// messages whole, at `TRACE` it and the HTTP stack log credentials.
const MUTED: [(&str, LevelFilter); 6] = [
    ("lapin", LevelFilter::OFF),
    ("amq_protocol", LevelFilter::OFF),
    ("h2", LevelFilter::INFO),
    ("hyper", LevelFilter::INFO),
    ("hyper_util", LevelFilter::INFO),
    ("reqwest", LevelFilter::INFO),
];

/// Whether `text` is a filter, such as `info,broker=debug`.
#[must_use]
pub fn is_filter(text: &str) -> bool {
    EnvFilter::try_new(text).is_ok()
}

/// Lets through what `text` asks for (as in `info,broker=debug`; `info` if it is no filter), except log lines in which
/// third-party crates would leak secrets.
#[must_use]
pub fn filter(text: &str) -> impl Layer<Registry> {
    let asked = EnvFilter::try_new(text).unwrap_or_else(|_| EnvFilter::new("info"));
    // A filter of its own: within one filter, a directive for a part of a crate wins over the one for the crate.
    asked.and_then(Targets::new().with_default(LevelFilter::TRACE).with_targets(MUTED))
}

/// Sends log lines to stderr: those that [`filter`] lets through. A second call changes nothing.
pub fn init_logs(text: &str, format: LogFormat) {
    let lines = fmt::layer().with_writer(io::stderr);
    // Without this check a log file would be full of escape codes; with it `NO_COLOR` still works.
    let lines = if io::stderr().is_terminal() { lines } else { lines.with_ansi(false) };
    let logs = tracing_subscriber::registry().with(filter(text));
    let outcome = match format {
        LogFormat::Text => logs.with(lines.with_target(false)).try_init(),
        LogFormat::Json => logs.with(lines.json().flatten_event(true)).try_init(),
    };
    drop(outcome);
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Heard {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_filter_opens_the_mouth_of_what_gives_secrets_away() {
        for text in ["trace", "lapin=trace", "lapin::channels=trace,hyper_util::client=trace", "[turn]=trace"] {
            let heard = Heard::default();
            let writer = heard.clone();
            let lines = fmt::layer().with_writer(move || writer.clone());
            tracing::subscriber::with_default(tracing_subscriber::registry().with(filter(text)).with(lines), || {
                tracing::error_span!("turn").in_scope(|| {
                    tracing::error!(target: "lapin::channels", "secret");
                    tracing::debug!(target: "hyper_util::client::legacy", "secret");
                });
                tracing::error_span!("turn").in_scope(|| tracing::error!(target: "hyper_util::client", "loud"));
            });
            let heard = String::from_utf8(heard.0.lock().unwrap().clone()).unwrap();
            assert!(!heard.contains("secret"), "{text}: {heard}");
            assert!(text == "lapin=trace" || heard.contains("loud"), "{text}: nothing is heard at all");
        }
    }
}
