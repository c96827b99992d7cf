//! The W3C trace context that follows a text from its webhook to its receipt.

use rand::RngCore as _;

/// A fresh `traceparent`, sampled: <https://www.w3.org/TR/trace-context/#traceparent-header>.
#[must_use]
pub fn new_traceparent() -> String {
    let mut ids = [0_u8; 24];
    rand::rng().fill_bytes(&mut ids);
    let (trace, span) = ids.split_at(16);
    format!("00-{}-{}-01", hex::encode(trace), hex::encode(span))
}
