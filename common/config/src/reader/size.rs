//! Sizes as people write them: `512MiB`, `1GiB`, or a plain number of bytes.

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Reads a whole number, alone or with its unit (`KiB`, `MiB` or `GiB`), as bytes.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let with_unit = UNITS.iter().find_map(|(name, bytes)| Some((text.strip_suffix(name)?.trim_end(), *bytes)));
    let (digits, unit_bytes) = with_unit.unwrap_or((text, 1));
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(unit_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_spellings_are_read() {
        for (text, bytes) in [("0", 0), ("4096", 4096), ("64KiB", 65_536), ("512 MiB", 512 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "GiB", "1.5GiB", "-1", "+1", "1GB", "1 k", "99999999999GiB", "٣MiB"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
