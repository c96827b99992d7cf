//! A number that texts come from or go to: E.164, a short code, or an alphanumeric sender.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A sender's or receiver's address in one canonical spelling. `Debug` and `Display` mask all but the last two characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PhoneNumber(String);

/// The text is no number that a provider could carry a text to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a phone number: expected E.164 such as +12125550100, a short code of 3 to 8 digits, or an alphanumeric sender of up to 11 characters"
)]
pub struct InvalidPhoneNumber;

impl PhoneNumber {
    /// Reads a number in any usual spelling and returns its canonical one.
    ///
    /// Numbers that start with `+` become E.164; 3 to 8 bare digits are a short code (also `1-12345`, as `IntelePeer`
    /// spells it); up to 11 letters and digits are an alphanumeric sender; `whatsapp:+…` and other channel addresses
    /// keep their prefix.
    ///
    /// # Errors
    /// [`InvalidPhoneNumber`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidPhoneNumber> {
        let text = text.trim();
        if let Some((channel, address)) = text.split_once(':') {
            let is_channel = !channel.is_empty() && channel.bytes().all(|b| b.is_ascii_lowercase());
            // One channel, or a long row of them would exhaust the stack.
            if !is_channel || address.contains(':') {
                return Err(InvalidPhoneNumber);
            }
            return Ok(Self(format!("{channel}:{}", Self::parse(address)?.0)));
        }
        if text.starts_with('+') {
            return parse_e164(text);
        }
        if is_short_code(text) || is_alphanumeric_sender(text) {
            return Ok(Self(text.to_owned()));
        }
        // Ten or more bare digits with a country code, as some systems print E.164.
        if text.len() >= 10 && text.bytes().all(|b| b.is_ascii_digit()) {
            return parse_e164(&format!("+{text}"));
        }
        Err(InvalidPhoneNumber)
    }

    /// The whole number: to be handed on, never logged.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The country calling code, such as `"1"`; `None` for short codes and alphanumeric senders.
    #[must_use]
    pub fn country_code(&self) -> Option<String> {
        let (_, address) = self.0.rsplit_once(':').unwrap_or(("", &self.0));
        let parsed = phonenumber::parse(None, address).ok()?;
        address.starts_with('+').then(|| parsed.code().value().to_string())
    }

    /// The number with all but its last two characters hidden, for people to recognise it.
    #[must_use]
    pub fn masked(&self) -> String {
        let length = self.0.chars().count();
        let shown = length.saturating_sub(2);
        self.0.chars().enumerate().map(|(i, c)| if i >= shown || c == '+' { c } else { '*' }).collect()
    }
}

fn parse_e164(text: &str) -> Result<PhoneNumber, InvalidPhoneNumber> {
    let mut number = String::with_capacity(text.len());
    number.push('+');
    number.extend(text.chars().filter(char::is_ascii_digit));
    let digits = number.len() - 1;
    let is_spelled_usually = text.chars().all(|c| matches!(c, '0'..='9' | '+' | ' ' | '-' | '(' | ')' | '.'));
    let plus_signs = text.matches('+').count();
    // Numbering plans change faster than their metadata: shape decides here, validity is the provider's business.
    // https://www.itu.int/rec/T-REC-E.164 allows 15 digits.
    if !is_spelled_usually || plus_signs != 1 || !(7..=15).contains(&digits) || number.starts_with("+0") {
        return Err(InvalidPhoneNumber);
    }
    Ok(PhoneNumber(number))
}

fn is_short_code(text: &str) -> bool {
    let code = text.split_once('-').map_or(text, |(country, code)| {
        if (1..=3).contains(&country.len()) && country.bytes().all(|b| b.is_ascii_digit()) { code } else { "" }
    });
    (3..=8).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit())
}

fn is_alphanumeric_sender(text: &str) -> bool {
    (1..=11).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b' ' || b == b'-')
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_spellings_become_one() {
        for spelling in ["+12125550100", " +1 212 555 0100", "+1 (212) 555-0100", "12125550100"] {
            assert_eq!(PhoneNumber::parse(spelling).unwrap().expose(), "+12125550100", "{spelling}");
        }
        for kept in ["32665", "1-12345", "Hello8", "whatsapp:+12125550100"] {
            assert_eq!(PhoneNumber::parse(kept).unwrap().expose(), kept);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "+",
            "+1",
            "++12125550100",
            "+0212555010",
            "hello, world of texts",
            "+1212555010012345",
            "WhatsApp:+1",
            "12",
            "whatsapp:sms:+12125550100",
        ] {
            assert_eq!(PhoneNumber::parse(text), Err(InvalidPhoneNumber), "{text:?}");
        }
    }

    #[test]
    fn a_long_row_of_channels_does_not_exhaust_the_stack() {
        assert_eq!(PhoneNumber::parse(&"a:".repeat(30_000)), Err(InvalidPhoneNumber));
    }

    #[test]
    fn debug_and_display_hide_the_number() {
        let number = PhoneNumber::parse("+12125550199").unwrap();
        assert_eq!(format!("{number:?} {number}"), "+*********99 +*********99");
    }

    #[test]
    fn country_codes_are_told() {
        let code = |n: &str| PhoneNumber::parse(n).unwrap().country_code();
        assert_eq!(code("+12125550199"), Some("1".to_owned()));
        assert_eq!(code("+4915112345678"), Some("49".to_owned()));
        assert_eq!(code("32665"), None);
    }
}
