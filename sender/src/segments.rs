//! How many SMS units a text is billed and carried as.
//! <https://www.twilio.com/docs/glossary/what-is-gsm-7-character-encoding>

/// The number of segments of `text`, at least 1: 160 GSM-7 characters or 70 UTF-16 units in one, 153 or 67 in each of
/// several. A pair that would straddle two segments is not accounted for, so a long text may need one more.
pub(crate) fn segments(text: &str) -> usize {
    let gsm = text.chars().map(gsm_places).sum::<Option<usize>>();
    let (places, alone, joined) = match gsm {
        Some(places) => (places, 160, 153),
        None => (text.encode_utf16().count(), 70, 67),
    };
    if places <= alone { 1 } else { places.div_ceil(joined) }
}

/// How many places `character` takes in GSM-7 (GSM 03.38); `None` when it is not in it.
fn gsm_places(character: char) -> Option<usize> {
    // Patterns and not strings to search: a text has up to 1,600 characters, and most of them are here.
    match character {
        ' '..='Z' | 'a'..='z' | '_' | '\n' | '\r' => Some(1),
        '¡' | '¿' | '¤' | 'Æ' | 'æ' | 'Ø' | 'ø' | 'Å' | 'å' | 'Ç' | 'ß' | 'É' => Some(1),
        'è' | 'é' | 'ù' | 'ì' | 'ò' | 'à' | 'Ä' | 'ä' | 'Ö' | 'ö' | 'Ü' | 'ü' | 'Ñ' | 'ñ' => Some(1),
        '£' | '¥' | '§' | 'Δ' | 'Φ' | 'Γ' | 'Λ' | 'Ω' | 'Π' | 'Ψ' | 'Σ' | 'Θ' | 'Ξ' => Some(1),
        '^' | '{' | '}' | '\\' | '[' | ']' | '~' | '|' | '€' | '\u{c}' => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_counted_as_carriers_count_them() {
        let cases = [
            (String::new(), 1),
            ("a".repeat(160), 1),
            ("a".repeat(161), 2),
            ("a".repeat(306), 2),
            ("a".repeat(307), 3),
            ("€".repeat(80), 1),
            ("€".repeat(81), 2),
            ("é".repeat(160), 1),
            ("ê".repeat(70), 1),
            ("ê".repeat(71), 2),
            ("`".repeat(71), 2),
            ("👍".repeat(35), 1),
            ("👍".repeat(36), 2),
        ];
        for (text, expected) in cases {
            assert_eq!(segments(&text), expected, "{} chars of {:?}", text.chars().count(), text.chars().next());
        }
    }
}
