//! Cuts a message into parts where a reader would pause: paragraph, line, sentence, word, and only then between two
//! graphemes. Never inside a grapheme or a URL, unless it alone is longer than a part may be.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation as _;

/// How many texts an answer becomes at most: a customer does not read more.
pub(super) const MAX_PARTS: usize = 100;

/// How many characters beyond the last possible cut are looked at: more than a URL's scheme has, and than stand between
/// a full stop and the letter that tells whether it ended a sentence.
const LOOKAHEAD_CHARS: usize = 64;

/// Cuts `text` into parts of at most `max_units` UTF-16 code units, as providers count them (Twilio error 21617); at
/// least 2, the length of the longest character. White space at cuts and ends is dropped, and so is what comes after
/// `max_parts`, nothing else.
pub(super) fn split(text: &str, max_units: usize, max_parts: usize) -> Vec<String> {
    let max_units = max_units.max(2);
    let mut parts = Vec::new();
    // Twice, because white space at cuts takes no room.
    let mut rest = head(text.trim(), max_parts.saturating_mul(max_units).saturating_mul(2));
    while !rest.is_empty() && parts.len() < max_parts {
        let (part, after) = rest.split_at(cut(rest, max_units));
        parts.push(part.trim_end().to_owned());
        rest = after.trim_start();
    }
    parts
}

/// The first `max_chars` characters of `text`.
fn head(text: &str, max_chars: usize) -> &str {
    text.char_indices().nth(max_chars).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// Where the first part of `text` ends, a byte offset greater than 0. `text` does not start with white space.
fn cut(text: &str, max_units: usize) -> usize {
    let limit = fitting(text, max_units, text.char_indices().map(|(at, c)| at + c.len_utf8()));
    let (_, beyond) = text.split_at(limit);
    if beyond.is_empty() {
        return limit;
    }
    // White space may stand beyond the limit: it is dropped.
    let reach = limit + beyond.len() - beyond.trim_start().len();
    let (within, beyond) = text.split_at(reach);
    // Not the whole text, or the time that all cuts take would grow with the square of its length.
    let (text, _) = text.split_at(reach + head(beyond, LOOKAHEAD_CHARS).len());
    let urls = urls(text);
    let is_outside_urls = |at: &usize| !urls.iter().any(|url| url.start < *at && *at < url.end);
    let last = |cuts: &mut dyn Iterator<Item = usize>| {
        cuts.take_while(|at| *at <= reach).filter(|at| *at > 0 && is_outside_urls(at)).last()
    };
    last(&mut within.match_indices("\n\n").map(|(at, _)| at))
        .or_else(|| last(&mut within.match_indices('\n').map(|(at, _)| at)))
        .or_else(|| last(&mut text.split_sentence_bound_indices().map(|(at, _)| at)))
        .or_else(|| last(&mut within.match_indices(char::is_whitespace).map(|(at, _)| at)))
        .or_else(|| last(&mut text.grapheme_indices(true).map(|(at, _)| at)))
        .unwrap_or_else(|| inside_url(text, max_units, limit))
}

/// The last resort for a URL, and then for a grapheme, that is longer than a part.
fn inside_url(text: &str, max_units: usize, limit: usize) -> usize {
    let graphemes = text.grapheme_indices(true).map(|(at, grapheme)| at + grapheme.len());
    match fitting(text, max_units, graphemes) {
        0 => limit,
        at => at,
    }
}

/// The last of `ends` (byte offsets, ascending) up to which `text` has at most `max_units`; 0 if there is none.
fn fitting(text: &str, max_units: usize, ends: impl Iterator<Item = usize>) -> usize {
    let mut units = 0;
    let mut fits = 0;
    for end in ends {
        units += text.get(fits..end).map_or(0, |piece| piece.encode_utf16().count());
        if units > max_units {
            break;
        }
        fits = end;
    }
    fits
}

/// Where URLs stand in `text`: from their scheme, or `www.`, to the next white space.
fn urls(text: &str) -> Vec<Range<usize>> {
    let lower = text.to_ascii_lowercase();
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut starts: Vec<usize> =
        ["http://", "https://", "www."].iter().flat_map(|s| lower.match_indices(s)).map(|(at, _)| at).collect();
    starts.sort_unstable();
    for start in starts {
        if found.last().is_none_or(|url| url.end <= start) {
            let length = text.get(start..).map_or(0, |rest| rest.find(char::is_whitespace).unwrap_or(rest.len()));
            found.push(start..start + length);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cuts_fall_where_a_reader_would_pause() {
        let cases: [(&str, usize, &[&str]); 7] = [
            ("short", 10, &["short"]),
            ("One.\n\nTwo two. Three", 16, &["One.", "Two two. Three"]),
            ("Title\n1. One\n2. Two", 14, &["Title\n1. One", "2. Two"]),
            ("First one. Second one", 14, &["First one.", "Second one"]),
            ("alpha beta gamma", 11, &["alpha beta", "gamma"]),
            ("abcdefgh", 3, &["abc", "def", "gh"]),
            ("👩‍👩‍👧👩‍👩‍👧", 9, &["👩‍👩‍👧", "👩‍👩‍👧"]),
        ];
        for (text, max_units, parts) in cases {
            assert_eq!(split(text, max_units, usize::MAX), parts, "{text:?}");
        }
    }

    #[test]
    fn an_answer_without_end_becomes_a_bounded_number_of_texts() {
        let endless = "word ".repeat(1_000_000);
        let parts = split(&endless, 1600, MAX_PARTS);
        assert_eq!(parts.len(), MAX_PARTS);
        assert!(parts.iter().all(|part| part.len() <= 1600 && part.ends_with("word")));
        assert_eq!(split(&endless, 1, MAX_PARTS).len(), MAX_PARTS);
    }

    #[test]
    fn a_url_stays_whole_unless_it_alone_is_too_long() {
        let text = "Look文https://example.com/?A=1&b=2. Then go";
        assert_eq!(split(text, 30, usize::MAX), ["Look文", "https://example.com/?A=1&b=2.", "Then go"]);
        assert_eq!(split("https://example.com/abc", 12, usize::MAX), ["https://exam", "ple.com/abc"]);
    }

    #[test]
    fn a_url_that_only_begins_before_the_end_of_a_part_is_seen() {
        let url = format!("https://example.com/{}", "a".repeat(200));
        for before in (222..=230).map(|length| "x".repeat(length)) {
            assert_eq!(split(&format!("{before}{url}"), 230, usize::MAX), [before, url.clone()]);
        }
    }

    #[test]
    fn length_is_counted_in_utf16_units() {
        assert_eq!(split(&"🎉".repeat(5), 4, usize::MAX), ["🎉🎉", "🎉🎉", "🎉"]);
    }

    fn squeezed(text: &str) -> String {
        text.chars().filter(|c| !c.is_whitespace()).collect()
    }

    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-z]{1,12}[.!?]? ",
            "[A-Z]\\PC{0,8}",
            Just("\n\n".to_owned()),
            Just("\n".to_owned()),
            Just("👩‍👩‍👧🇩🇪e\u{301}".to_owned()),
            Just("https://example.com/?q=A.B ".to_owned()),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn nothing_but_white_space_is_lost_and_every_part_fits(text in texts(), max_units in 2_usize..60) {
            let parts = split(&text, max_units, usize::MAX);
            prop_assert_eq!(squeezed(&parts.concat()), squeezed(&text));
            for part in parts {
                prop_assert!(part.encode_utf16().count() <= max_units);
                prop_assert!(!part.is_empty());
                prop_assert_eq!(part.trim(), part.as_str());
            }
        }

        #[test]
        fn no_grapheme_or_url_is_broken(text in texts(), max_units in 40_usize..80) {
            let parts = split(&text, max_units, usize::MAX);
            // A grapheme may have white space of its own, which is dropped at cuts as any other is.
            let shown = |text: &str| text.graphemes(true).map(|g| g.trim().to_owned()).filter(|g| !g.is_empty()).collect();
            let whole: Vec<String> = shown(&text);
            prop_assert_eq!(parts.iter().flat_map(|part| -> Vec<String> { shown(part) }).collect::<Vec<_>>(), whole);
            let count = |text: &str| text.matches("https://example.com/?q=A.B").count();
            prop_assert_eq!(parts.iter().map(|p| count(p)).sum::<usize>(), count(&text));
        }
    }
}
