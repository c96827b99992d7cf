//! Reads the JSON of a webhook leniently: one bad character must not cost the text.

use std::iter::Peekable;
use std::str::Chars;

use serde_json::{Map, Value};

/// The body as text, without a byte order mark; invalid UTF-8 becomes U+FFFD.
pub(super) fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim_start_matches('\u{feff}').to_owned()
}

/// The JSON object in `text`, if need be after its bad characters are repaired.
pub(super) fn object(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(text).or_else(|_| serde_json::from_str(&mended(text))).ok()
}

/// Every string that stands as a value of `name` in `text`, as it is written and as it is decoded. `text` need not be
/// JSON.
pub(super) fn strings(text: &str, name: &str) -> Vec<(String, String)> {
    let value = |rest: &str| {
        let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
        let mut is_escaped = false;
        let is_end = |c: char| {
            let ends = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        };
        let (raw, _) = rest.split_at(rest.find(is_end)?);
        let read = serde_json::from_str(&format!("\"{raw}\"")).unwrap_or_else(|_| raw.to_owned());
        (!raw.is_empty()).then(|| (raw.to_owned(), read))
    };
    text.split(&format!("\"{name}\"")).skip(1).filter_map(value).collect()
}

/// Repairs `text`: replaces or escapes what strict JSON forbids within a string, and removes what cannot stand outside
/// of one.
fn mended(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut is_in_string = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if !is_in_string || ends_string(&chars) => {
                is_in_string = !is_in_string;
                mended.push('"');
            }
            '"' => mended.push_str("\\\""),
            '\\' if is_in_string => escape(&mut mended, &mut chars),
            c if c.is_control() && is_in_string => mended.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if !is_in_string && !c.is_ascii_graphic() && !c.is_ascii_whitespace() => {}
            c => mended.push(c),
        }
    }
    mended
}

/// Whether `rest`, which follows a quotation mark, may follow the end of a string.
fn ends_string(rest: &Peekable<Chars<'_>>) -> bool {
    rest.clone().find(|c| !c.is_whitespace()).is_none_or(|next| ",:}]".contains(next))
}

/// Writes the escape sequence whose backslash was just taken off `rest`. An escape that JSON does not know stays as it
/// is written; half of a surrogate pair becomes U+FFFD.
fn escape(mended: &mut String, rest: &mut Peekable<Chars<'_>>) {
    match rest.peek().copied() {
        Some(known @ ('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't')) => {
            rest.next();
            mended.extend(['\\', known]);
        }
        Some('u') => match code_unit(rest) {
            Some(high @ 0xD800..=0xDBFF) => {
                let mut ahead = rest.clone();
                let low = if ahead.next() == Some('\\') { code_unit(&mut ahead) } else { None };
                match low.filter(|low| (0xDC00..=0xDFFF).contains(low)) {
                    Some(low) => {
                        *rest = ahead;
                        mended.push_str(&format!("\\u{high:04x}\\u{low:04x}"));
                    }
                    None => mended.push('\u{fffd}'),
                }
            }
            Some(0xDC00..=0xDFFF) => mended.push('\u{fffd}'),
            Some(unit) => mended.push_str(&format!("\\u{unit:04x}")),
            None => mended.push_str("\\\\"),
        },
        _ => mended.push_str("\\\\"),
    }
}

/// Takes `u` and four hexadecimal digits off `rest`, if it begins so.
fn code_unit(rest: &mut Peekable<Chars<'_>>) -> Option<u32> {
    let mut ahead = rest.clone();
    ahead.next_if_eq(&'u')?;
    let digits: String = ahead.by_ref().take(4).collect();
    let is_hex = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let unit = u32::from_str_radix(&digits, 16).ok().filter(|_| is_hex)?;
    *rest = ahead;
    Some(unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn message(body: &[u8]) -> String {
        object(&text(body)).unwrap()["m"].as_str().unwrap().to_owned()
    }

    #[test]
    fn t3_a_bad_character_becomes_one_replacement_and_the_words_around_it_stay() {
        let cases: [(&[u8], &str); 24] = [
            (br#"{"m":"cut \ud83d"}"#, "cut \u{fffd}"),
            (br#"{"m":"\ude00 cut"}"#, "\u{fffd} cut"),
            (br#"{"m":"\ud83d\ud83d\ude00\ude00"}"#, "\u{fffd}\u{1f600}\u{fffd}"),
            (br#"{"m":"\uD83Dx\uDE00"}"#, "\u{fffd}x\u{fffd}"),
            (br#"{"m":"\ud83d\n"}"#, "\u{fffd}\n"),
            (br#"{"m":"\ud83d\\ude00"}"#, "\u{fffd}\\ude00"),
            (br#"{"m":"ok","x":["\udfff",{"\ud800":1}]}"#, "ok"),
            (br#"{"m":"\u12"}"#, "\\u12"),
            (br#"{"m":"\u00zz \u+123"}"#, "\\u00zz \\u+123"),
            (br#"{"m":"\x41 \' 100\%"}"#, "\\x41 \\' 100\\%"),
            (b"{\"m\":\"a\xffb\"}", "a\u{fffd}b"),
            (b"{\"m\":\"\xc0\xaf\"}", "\u{fffd}\u{fffd}"),
            (b"{\"m\":\"\xed\xa0\xbd\"}", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"{\"m\":\"\xe2\x82\"}", "\u{fffd}"),
            (b"{\"m\":\"a\0b\"}", "a\0b"),
            (b"{\"m\":\"two\nlines\r\n\t\x1b[31m\x7f\"}", "two\nlines\r\n\t\x1b[31m\x7f"),
            (b"\xef\xbb\xbf{\"m\":\"bom\"}", "bom"),
            (b"\0{\"m\":\x01\"nul\"}\0", "nul"),
            (b" \xef\xbb\xbf{\"m\":\xff\"outside\"\xc2\xa0}", "outside"),
            (b"\xef\xbb\xbf\xef\xbb\xbf{\"m\":\"two\"}", "two"),
            (br#"{"m":"he said "hi" to me"}"#, "he said \"hi\" to me"),
            (br#"{"m":"a\"b \ud83d"}"#, "a\"b \u{fffd}"),
            (br#"{"m":"\u0041\ud83d"}"#, "A\u{fffd}"),
            (br#"{"m":"whole \ud83d\ude00"}"#, "whole \u{1f600}"),
        ];
        for (body, words) in cases {
            assert_eq!(message(body), words, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn what_is_no_object_is_none_and_its_strings_are_found_all_the_same() {
        for body in ["", "null", "[]", "\"m\"", "{", "m=1", r#"{"m":"cut"#, r#"{"m":1e999}"#, &"[".repeat(100_000)] {
            assert_eq!(object(body), None, "{body}");
        }
        let found = strings(r#"{"s":"a\"b", "s" : "c","s":1,"t":"d","s":"open"#, "s");
        assert_eq!(found, [("a\\\"b".to_owned(), "a\"b".to_owned()), ("c".to_owned(), "c".to_owned())]);
    }

    proptest! {
        #[test]
        fn good_json_is_left_alone_and_nothing_makes_it_panic(words in ".*", noise in prop::collection::vec(any::<u8>(), 0..100)) {
            let good = json!({"m": words, "n": [1, null, {"x": words}]}).to_string();
            prop_assert_eq!(serde_json::from_str::<Value>(&mended(&good)).unwrap(), serde_json::from_str::<Value>(&good).unwrap());
            let text = text(&noise);
            let _ = (object(&text), strings(&text, "m"));
        }

        #[test]
        fn t3_no_single_byte_within_the_words_costs_the_text(at in 0_usize..12, byte in any::<u8>()) {
            let mut body = br#"{"r":"R1","m":"twelve bytes","f":"x"}"#.to_vec();
            let start = body.windows(6).position(|bytes| bytes == b"twelve").unwrap();
            body[start + at] = byte;
            let object = object(&text(&body));
            // A backslash before the closing mark, or a mark before it, changes where the string ends.
            if at < 11 || (byte != b'\\' && byte != b'"') {
                prop_assert!(object.unwrap()["m"].is_string());
            }
        }
    }
}
