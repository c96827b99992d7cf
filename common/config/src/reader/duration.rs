//! Durations as people write them: `30s`, `200ms`, `1h30m`.

use std::time::Duration;

const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads one or more whole numbers, each with its unit (`h`, `m`, `s` or `ms`), largest unit first; `None` if it is
/// spelled in any other way.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total_ms = 0_u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let (digits, tail) = split_where(rest, |c| !c.is_ascii_digit());
        let (name, tail) = split_where(tail, |c| c.is_ascii_digit());
        let (_, unit_ms) = units.find(|(unit, _)| *unit == name)?;
        total_ms = digits.parse::<u64>().ok()?.checked_mul(*unit_ms)?.checked_add(total_ms)?;
        rest = tail;
    }
    (!text.trim().is_empty()).then(|| Duration::from_millis(total_ms))
}

/// Writes a duration as [`parse`] reads it; less than a millisecond is dropped.
pub(crate) fn show(duration: Duration) -> String {
    let mut rest_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, unit_ms) in UNITS {
        let count = rest_ms / unit_ms;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
        rest_ms %= unit_ms;
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

fn split_where(text: &str, is_end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(is_end).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_spellings_are_read() {
        for (text, ms) in
            [("30s", 30_000), ("200ms", 200), ("1h", 3_600_000), ("2m", 120_000), ("1h30m", 5_400_000), ("0s", 0)]
        {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", " ", "30", "s", "1.5s", "-1s", "30 s", "1s1h", "1s1s", "99999999999999999999s", "٣s"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(ms in 0_u64..1_000_000_000_000) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&show(duration)), Some(duration));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}") {
            assert!(parse(&text).is_none_or(|duration| duration >= Duration::ZERO));
        }
    }
}
