//! The list that is open, and what of it a text chooses.

use serde::{Deserialize, Serialize};

use crate::assistant::Choice;

/// Choices the customer was shown, numbered from 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenList {
    choices: Vec<Choice>,
    /// Whether the last text chose nothing.
    #[serde(default)]
    was_passed_over: bool,
}

impl OpenList {
    /// A list that was just shown.
    pub(crate) fn new(choices: Vec<Choice>) -> Self {
        Self { choices, was_passed_over: false }
    }

    /// What `text` chooses: by number (`2`, `2.`, `#2`, `２`), or else by label, whatever its case.
    pub(crate) fn choose(&self, text: &str) -> Option<&Choice> {
        let by_number = || number(text)?.checked_sub(1).and_then(|index| self.choices.get(index));
        let wanted = text.trim().to_lowercase();
        let by_label = || self.choices.iter().find(|choice| choice.label.expose().trim().to_lowercase() == wanted);
        by_number().or_else(by_label)
    }

    /// The list after a text that chose nothing and brought no new list: it stays open for one more, so that a question
    /// in between does no harm, but a number much later means something else.
    pub(crate) fn passed_over(self) -> Option<Self> {
        (!self.was_passed_over).then_some(Self { was_passed_over: true, ..self })
    }
}

/// The number that `text` consists of, but for the punctuation people put around one.
fn number(text: &str) -> Option<usize> {
    let ascii: String = text.trim().chars().map(half_width).collect();
    let digits = ascii.trim_start_matches(['#', '(', '[']).trim_end_matches(['.', ')', ']', ':', ',', '!', '\u{3002}']);
    // usize::from_str would also take "+2".
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Full-width ASCII, as Chinese and Japanese keyboards write it, made plain.
fn half_width(c: char) -> char {
    match c {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn labelled(labels: &[&str]) -> OpenList {
        OpenList::new(
            labels
                .iter()
                .map(|l| Choice { label: (*l).into(), input: json!({ "text": l, "suggestion_id": 7 }) })
                .collect(),
        )
    }

    fn chosen(list: &OpenList, text: &str) -> Option<String> {
        list.choose(text).map(|c| c.label.expose().to_owned())
    }

    #[test]
    fn numbers_and_labels_choose_in_the_spellings_people_use() {
        let list = labelled(&["Opening hours", "Kontostand prüfen", "Talk to a person "]);
        for text in ["2", " 2 ", "2.", "2)", "(2)", "#2", "2:", "２", "２．", "＃２", "002", "KONTOSTAND PRÜFEN"]
        {
            assert_eq!(chosen(&list, text).as_deref(), Some("Kontostand prüfen"), "{text:?}");
        }
        assert_eq!(chosen(&list, "talk to a person").as_deref(), Some("Talk to a person "));
    }

    #[test]
    fn anything_else_chooses_nothing() {
        let list = labelled(&["A", "B"]);
        for text in ["", "0", "3", "+1", "-1", "1 or 2", "2nd", "12345678901234567890123", "#", "."] {
            assert_eq!(chosen(&list, text), None, "{text:?}");
        }
    }

    #[test]
    fn a_number_that_is_no_place_may_still_be_a_label() {
        assert_eq!(chosen(&labelled(&["10", "20"]), "20").as_deref(), Some("20"));
    }

    #[test]
    fn a_list_survives_one_text_that_chose_nothing() {
        let once = labelled(&["A"]).passed_over().unwrap();
        assert_eq!(chosen(&once, "1").as_deref(), Some("A"));
        assert_eq!(once.passed_over(), None);
    }

    proptest! {
        #[test]
        fn every_number_chooses_its_place_and_keeps_the_input(count in 1_usize..30, pick in 0_usize..60, suffix in "[.):]?") {
            let labels: Vec<String> = (0..count).map(|i| format!("label {i}")).collect();
            let list = labelled(&labels.iter().map(String::as_str).collect::<Vec<_>>());
            let choice = list.choose(&format!("{}{suffix}", pick + 1));
            let expected = labels.get(pick).map(|label| json!({ "text": label, "suggestion_id": 7 }));
            prop_assert_eq!(choice.map(|c| c.input.clone()), expected);
        }

        #[test]
        fn choosing_never_panics(text in any::<String>()) {
            let list = labelled(&["A"]);
            let is_first = text.trim().eq_ignore_ascii_case("a") || number(&text) == Some(1);
            prop_assert_eq!(list.choose(&text).is_some(), is_first);
        }
    }
}
