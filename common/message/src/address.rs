//! Where texts come from and go to: a phone number, a short code, a sender id or a channel address.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest address, in characters. The longest ones known, agents of RCS and users of WhatsApp, have fewer than 64.
const LONGEST_CHARS: usize = 128;
/// Channels whose addresses may be numbers, with or without `+`.
const CHANNELS_OF_NUMBERS: [&str; 3] = ["rcs", "sms", "whatsapp"];
/// The channels whose names a mask shows. Another word before a colon may be a person's name.
const KNOWN_CHANNELS: [&str; 6] = ["messenger", "mms", "rcs", "sms", "viber", "whatsapp"];
/// How many characters at the end a mask shows.
const SHOWN_CHARS: usize = 2;

/// A sender's or receiver's address: a number in one canonical spelling, anything else as it stands.
/// `Debug` and `Display` mask it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Address(String);

/// The text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address: expected 1 to {LONGEST_CHARS} characters")]
pub struct InvalidAddress;

impl Address {
    /// Reads an address. A number in any usual spelling becomes E.164, also behind a channel's name (`whatsapp:+…`),
    /// which is put in lower case. Anything else stays as it is, except for surrounding blanks.
    ///
    /// # Errors
    /// [`InvalidAddress`] when it is empty or has more than 128 characters.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let text = text.trim();
        if text.is_empty() || text.chars().nth(LONGEST_CHARS).is_some() {
            return Err(InvalidAddress);
        }
        let Some((channel, rest)) = split_channel(text) else {
            return Ok(Self(e164(text).unwrap_or_else(|| text.to_owned())));
        };
        let channel = channel.to_ascii_lowercase();
        let may_be_number = rest.starts_with('+') || CHANNELS_OF_NUMBERS.contains(&channel.as_str());
        let number = if may_be_number { e164(rest.trim()) } else { None };
        Ok(Self(format!("{channel}:{}", number.as_deref().unwrap_or(rest))))
    }

    /// The whole address: to be handed on, never logged.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The country calling code, such as `"1"`; `None` where the address is no number in E.164.
    #[must_use]
    pub fn country_code(&self) -> Option<String> {
        let parsed = phonenumber::parse(None, self.number()?).ok()?;
        Some(parsed.code().value().to_string())
    }

    /// Whether a text could be sent there: to a number, a short code, or an address on a channel. A sender id such as
    /// `AT&T` only sends.
    #[must_use]
    pub fn is_answerable(&self) -> bool {
        self.number().is_some() || is_short_code(&self.0) || split_channel(&self.0).is_some()
    }

    /// Whether it is spelled like an address that a provider assigns: an answerable one without blanks, or a sender id
    /// of at most 11 characters.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        (self.is_answerable() && self.0.bytes().all(|b| b.is_ascii_graphic())) || is_sender_id(&self.0)
    }

    /// The address with all but its last two characters hidden, for people to recognise it: never the whole.
    #[must_use]
    pub fn masked(&self) -> String {
        let known = split_channel(&self.0).filter(|(channel, _)| KNOWN_CHANNELS.contains(channel));
        let (channel, rest) = known.unwrap_or(("", &self.0));
        let length = rest.chars().count();
        let end = rest.chars().rev().take(SHOWN_CHARS.min(length / 2));
        let shown_from = length - end.take_while(|c| c.is_alphanumeric()).count();
        let is_number = self.number().is_some();
        let mask = |(i, c)| if i >= shown_from || (i == 0 && is_number) { c } else { '*' };
        let colon = if channel.is_empty() { "" } else { ":" };
        let masked: String = rest.chars().enumerate().map(mask).collect();
        // The hidden characters may be asterisks themselves.
        let masked = if masked == rest { "*".repeat(length) } else { masked };
        format!("{channel}{colon}{masked}")
    }

    /// The number in E.164, where it is one, on a channel or not.
    #[must_use]
    pub fn number(&self) -> Option<&str> {
        let number = split_channel(&self.0).map_or(self.0.as_str(), |(_, rest)| rest);
        is_e164(number).then_some(number)
    }
}

/// The name of a channel and the address on it. What follows the colon of a sentence is no address.
fn split_channel(text: &str) -> Option<(&str, &str)> {
    let (channel, rest) = text.split_once(':')?;
    let is_word = !channel.is_empty() && channel.bytes().all(|b| b.is_ascii_alphabetic());
    // A plus sign that was not escaped arrives as a blank.
    let may_begin_blank = CHANNELS_OF_NUMBERS.iter().any(|known| known.eq_ignore_ascii_case(channel));
    let is_address = may_begin_blank || !rest.starts_with(char::is_whitespace);
    (is_word && is_address && !rest.is_empty()).then_some((channel, rest))
}

/// The number that `text` spells in a usual way, in E.164.
fn e164(text: &str) -> Option<String> {
    let is_bare = text.len() >= 10 && text.bytes().all(|b| b.is_ascii_digit());
    let is_spelled_usually = text.chars().all(|c| matches!(c, '0'..='9' | '+' | ' ' | '-' | '(' | ')' | '.'));
    let has_plus = text.starts_with('+') && text.matches('+').count() == 1;
    let number: String = std::iter::once('+').chain(text.chars().filter(char::is_ascii_digit)).collect();
    ((is_bare || (has_plus && is_spelled_usually)) && is_e164(&number)).then_some(number)
}

/// Numbering plans change faster than their metadata: shape decides here, validity is the provider's business.
/// <https://www.itu.int/rec/T-REC-E.164> allows 15 digits.
fn is_e164(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
}

/// 3 to 8 digits, also `1-12345`, as `IntelePeer` spells it.
fn is_short_code(text: &str) -> bool {
    let code = text.split_once('-').map_or(text, |(country, code)| {
        if (1..=3).contains(&country.len()) && country.bytes().all(|b| b.is_ascii_digit()) { code } else { "" }
    });
    (3..=8).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit())
}

fn is_sender_id(text: &str) -> bool {
    (1..=11).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b" -_.&+".contains(&b))
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> String {
        Address::parse(text).unwrap().0
    }

    #[test]
    fn numbers_in_any_usual_spelling_become_one() {
        for spelling in ["+12125550100", " +1 212 555 0100", "+1 (212) 555-0100", "12125550100"] {
            assert_eq!(parse(spelling), "+12125550100", "{spelling}");
        }
        let on_a_channel =
            ["whatsapp:+12125550100", "WhatsApp:+1 212 555 0100", "whatsapp:12125550100", "whatsapp: 12125550100"];
        for spelling in on_a_channel {
            assert_eq!(parse(spelling), "whatsapp:+12125550100", "{spelling}");
        }
    }

    #[test]
    fn c15_an_address_stays_as_it_stands_but_for_the_case_of_its_channel() {
        let kept = [
            "32665",
            "1-12345",
            "Hello8",
            "AT&T",
            "rcs:brand_agent",
            "rcs:Brand_Agent",
            "messenger:110774245409935",
            "whatsapp:US.13491208655302741918",
            "+",
            "+1",
            "++12125550100",
            "+0212555010",
            "+1212555010012345",
            "hello, world of texts",
            "Bank: call us",
            "Bank: 12 off",
            "AT&T:x",
            ":",
            "rcs:",
            "12",
            "Grüße",
            "a\0b",
            "rcs:a:b",
            "＋１２１２",
        ];
        for address in kept {
            assert_eq!(parse(address), address);
        }
        assert_eq!(parse("RCS:+13035550142"), "rcs:+13035550142");
        assert_eq!(parse("Rcs:Brand_Agent"), "rcs:Brand_Agent");
        assert_eq!(parse(&"x".repeat(128)), "x".repeat(128));
    }

    #[test]
    fn nothing_and_too_much_are_no_addresses() {
        for text in ["", " \t\n", &"x".repeat(129), &"a:".repeat(30_000)] {
            assert_eq!(Address::parse(text), Err(InvalidAddress), "{text:?}");
        }
    }

    #[test]
    fn debug_and_display_hide_it() {
        let masks = [
            ("+12125550199", "+*********99"),
            ("whatsapp:+12125550199", "whatsapp:+*********99"),
            ("rcs:brand_agent", "rcs:*********nt"),
            ("whatsapp:US.13491208655302741918", "whatsapp:*********************18"),
            ("alice:smith", "*********th"),
            ("AT&T", "***T"),
            ("911", "**1"),
            ("x", "*"),
            ("rcs:x", "rcs:*"),
            ("+", "*"),
            ("a\u{202e}\nb\u{202e}", "*****"),
        ];
        for (address, mask) in masks {
            let address = Address::parse(address).unwrap();
            assert_eq!(format!("{address:?} {address}"), format!("{mask} {mask}"));
        }
        assert_eq!(Address::default().masked(), "");
    }

    #[test]
    fn only_a_number_has_a_country_and_a_sender_id_only_sends() {
        let cases = [
            ("+12125550199", Some("1"), true),
            ("+4915112345678", Some("49"), true),
            ("rcs:+4915112345678", Some("49"), true),
            ("32665", None, true),
            ("1-12345", None, true),
            ("rcs:brand_agent", None, true),
            ("whatsapp:US.13491208655302741918", None, true),
            ("AT&T", None, false),
            ("Hello8", None, false),
            ("rcs:", None, false),
            ("+12", None, false),
            ("", None, false),
        ];
        for (address, country, is_answerable) in cases {
            let address = Address(address.to_owned());
            assert_eq!(address.country_code().as_deref(), country, "{}", address.0);
            assert_eq!(address.is_answerable(), is_answerable, "{}", address.0);
        }
    }

    #[test]
    fn g7_an_address_of_asterisks_is_hidden_too() {
        assert_eq!(Address("*x".to_owned()).masked(), "**");
        assert_eq!(Address("rcs:**x".to_owned()).masked(), "rcs:***");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_its_own_spelling_is_read_as_itself(
            text in "(\\PC|[a-zA-Z]{1,3}:|\\+|[0-9]{1,6}| |-){0,20}",
        ) {
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(&Address::parse(&address.0).unwrap(), &address);
                prop_assert!(address.0.chars().count() <= LONGEST_CHARS);
                let _ = (address.country_code(), address.is_answerable(), address.is_usual());
            }
        }

        #[test]
        fn g7_no_mask_shows_more_than_two_characters_of_what_it_hides(text in "(\\PC|[a-zA-Z]{1,3}:|\\+|[0-9]{1,6}){1,20}") {
            let Ok(address) = Address::parse(&text) else { return Ok(()) };
            let masked = address.masked();
            let hidden = masked.split_once(':').map_or(masked.as_str(), |(_, rest)| rest);
            prop_assert!(hidden.chars().filter(|c| *c != '*').count() <= 3, "{}", masked);
            prop_assert!(masked != address.0 || address.0.ends_with('*'), "{}", masked);
        }

        #[test]
        fn a_number_in_e164_is_what_it_always_was(number in "\\+[1-9][0-9]{6,14}", channel in "(|whatsapp:|rcs:)") {
            let address = format!("{channel}{number}");
            prop_assert_eq!(parse(&address), address);
        }
    }
}
