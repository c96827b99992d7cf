//! Logs on stderr, and the W3C trace context that follows a text from its webhook to its receipt.

use std::io::{self, IsTerminal as _};

use rand::RngCore as _;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

/// Never heard at these levels, whatever the filter asks for: at `WARN` lapin logs unroutable messages whole, at `TRACE`
/// it and the HTTP stack log credentials.
const MUTED: [&str; 6] = ["lapin=off", "amq_protocol=off", "h2=info", "hyper=info", "hyper_util=info", "reqwest=info"];

/// Lets through what `text` asks for (as in `info,common::broker=debug`; `info` if it is no filter), except what other
/// people's crates would give away.
#[must_use]
pub fn filter(text: &str) -> EnvFilter {
    let filter = EnvFilter::try_new(text).unwrap_or_else(|_| EnvFilter::new("info"));
    MUTED.iter().filter_map(|muted| muted.parse().ok()).fold(filter, EnvFilter::add_directive)
}

/// Sends log lines to stderr: those that [`filter`] lets through. A second call changes nothing.
pub fn init_logs(text: &str, format: LogFormat) {
    let is_terminal = io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter(text)).with_writer(io::stderr).with_ansi(is_terminal);
    let outcome = match format {
        LogFormat::Text => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    drop(outcome);
}

/// A fresh `traceparent`, sampled: <https://www.w3.org/TR/trace-context/#traceparent-header>.
#[must_use]
pub fn new_traceparent() -> String {
    let mut ids = [0_u8; 24];
    rand::rng().fill_bytes(&mut ids);
    let (trace, span) = ids.split_at(16);
    format!("00-{}-{}-01", hex::encode(trace), hex::encode(span))
}

/// The caller's `traceparent` if it is well formed, otherwise a fresh one.
#[must_use]
pub fn traceparent_from(header: Option<&str>) -> String {
    header.filter(|text| is_traceparent(text)).map_or_else(new_traceparent, str::to_owned)
}

fn is_traceparent(text: &str) -> bool {
    let fields: Vec<&str> = text.split('-').collect();
    let [version, trace, span, flags] = fields.as_slice() else { return false };
    let is_hex = |field: &str, length: usize| {
        field.len() == length && field.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    *version == "00"
        && is_hex(trace, 32)
        && is_hex(span, 16)
        && is_hex(flags, 2)
        && trace.bytes().any(|b| b != b'0')
        && span.bytes().any(|b| b != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_traceparent_is_kept_and_a_bad_one_replaced() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent_from(Some(good)), good);
        for bad in [
            None,
            Some(""),
            Some("00-0-0-01"),
            Some("zz"),
            Some("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
        ] {
            let fresh = traceparent_from(bad);
            assert!(is_traceparent(&fresh), "{bad:?} gave {fresh}");
        }
    }
}
