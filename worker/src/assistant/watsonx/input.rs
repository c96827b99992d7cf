//! Makes a text fit for `input.text`: watsonx refuses CR, LF and tab, and more than 2,048 characters, with a 400.
//! <https://cloud.ibm.com/docs/watson-assistant?topic=watson-assistant-message-anatomy>

/// The most characters that `input.text` may have.
const MAX_CHARS: usize = 2048;

/// `text` with CR, LF and tab made spaces, cut at 2,048 characters; cuts are counted.
pub(super) fn sanitised(text: &str) -> String {
    let fit = |c| if matches!(c, '\r' | '\n' | '\t') { ' ' } else { c };
    let mut chars = text.chars().map(fit);
    let sanitised = chars.by_ref().take(MAX_CHARS).collect();
    if chars.next().is_some() {
        metrics::counter!("switchboard_assistant_texts_cut_total").increment(1);
    }
    sanitised
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn line_ends_and_tabs_become_spaces_and_long_texts_are_cut() {
        assert_eq!(sanitised("a\r\nb\tc"), "a  b c");
        assert_eq!(sanitised(&"é".repeat(2048)), "é".repeat(2048));
        assert_eq!(sanitised(&"🎉".repeat(2049)), "🎉".repeat(2048));
    }

    proptest! {
        #[test]
        fn whatever_comes_watsonx_would_take_it(text in "[\\s\\S]{0,3000}") {
            let fit = sanitised(&text);
            prop_assert!(fit.chars().count() <= MAX_CHARS);
            prop_assert!(!fit.contains(['\r', '\n', '\t']));
        }
    }
}
