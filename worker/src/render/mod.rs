//! Answers as texts: items become one message, blank lines between, which is cut into parts.

mod choice;
mod split;

use std::borrow::Cow;

use message::MessageText;

use crate::assistant::{ChoiceList, Item};

pub(crate) use choice::OpenList;

/// An answer ready to send.
#[derive(Debug, PartialEq)]
pub(crate) struct Rendered {
    /// The parts' texts, in order; none when there is nothing to show.
    pub(crate) texts: Vec<MessageText>,
    /// The lists among the items, as one: numbers run on from list to list, so that each means one choice.
    pub(crate) list: Option<OpenList>,
}

/// Renders `items` into parts of at most `max_units` UTF-16 code units.
pub(crate) fn render(items: &[Item], max_units: usize) -> Rendered {
    let mut blocks = Vec::new();
    let mut choices = Vec::new();
    for item in items {
        match item {
            Item::Text(text) => blocks.push(words(text)),
            Item::Options(list) | Item::Suggestions(list) => {
                blocks.push(list_lines(list, choices.len()).into());
                choices.extend(list.choices.iter().cloned());
            }
            Item::Other { response_type } => {
                tracing::debug!(response_type, "ignored a response type that cannot be shown");
                metrics::counter!("switchboard_response_types_ignored_total", "type" => known(response_type))
                    .increment(1);
            }
        }
    }
    blocks.retain(|block| !block.is_empty());
    let parts = split::split(&blocks.join("\n\n"), max_units, split::MAX_PARTS);
    let texts: Vec<_> = parts.into_iter().map(MessageText::from).collect();
    if texts.len() == split::MAX_PARTS {
        tracing::warn!(parts = texts.len(), "an answer fills as many texts as are sent, the rest of it may be cut off");
        metrics::counter!("switchboard_answers_cut_total").increment(1);
    }
    Rendered { texts, list: (!choices.is_empty()).then(|| OpenList::new(choices)) }
}

/// The words as they go into a text message: one kind of line end, nothing around them.
/// (Markup becomes plain text here.)
fn words(text: &MessageText) -> Cow<'_, str> {
    let text = text.expose().trim();
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n").into() } else { text.into() }
}

/// The title, the description, then a numbered line for each choice; the first number follows `shown_before`.
fn list_lines(list: &ChoiceList, shown_before: usize) -> String {
    let heading = [Some(&list.title), list.description.as_ref()].into_iter().flatten().map(words);
    let numbered = (shown_before + 1..)
        .zip(&list.choices)
        .map(|(number, choice)| format!("{number}. {}", words(&choice.label)).into());
    heading.filter(|line| !line.is_empty()).chain(numbered).collect::<Vec<_>>().join("\n")
}

/// A metric label with a bounded number of values, whatever the assistant sends.
fn known(response_type: &str) -> &'static str {
    const KNOWN: [&str; 19] = [
        "audio",
        "button",
        "card",
        "carousel",
        "channel_transfer",
        "connect_to_agent",
        "conversation_search",
        "date",
        "dtmf",
        "grid",
        "iframe",
        "image",
        "option",
        "pause",
        "search",
        "suggestion",
        "table",
        "user_defined",
        "video",
    ];
    KNOWN.into_iter().find(|name| *name == response_type).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::assistant::Choice;

    fn list(title: &str, labels: &[&str]) -> ChoiceList {
        let choices = labels.iter().map(|l| Choice { label: (*l).into(), input: json!({ "text": l }) }).collect();
        ChoiceList { title: title.into(), description: None, choices }
    }

    fn texts(rendered: &Rendered) -> Vec<&str> {
        rendered.texts.iter().map(MessageText::expose).collect()
    }

    #[test]
    fn items_are_joined_by_a_blank_line_and_lists_are_numbered() {
        let items = [
            Item::Text(" Hello\r\nthere ".into()),
            Item::Other { response_type: "iframe".into() },
            Item::Options(list("What can I do?", &["Hours", "Balance"])),
        ];
        let rendered = render(&items, 1600);
        assert_eq!(texts(&rendered), ["Hello\nthere\n\nWhat can I do?\n1. Hours\n2. Balance"]);
        assert_eq!(rendered.list.unwrap().choose("2").unwrap().label.expose(), "Balance");
    }

    #[test]
    fn numbers_run_on_over_several_lists_and_descriptions_follow_titles() {
        let mut second = list("", &["C"]);
        second.description = Some("or".into());
        let rendered = render(&[Item::Suggestions(list("Did you mean:", &["A", "B"])), Item::Options(second)], 1600);
        assert_eq!(texts(&rendered), ["Did you mean:\n1. A\n2. B\n\nor\n3. C"]);
        assert_eq!(rendered.list.unwrap().choose("3").unwrap().label.expose(), "C");
    }

    #[test]
    fn nothing_to_show_makes_no_parts() {
        let rendered = render(&[Item::Text(" \n ".into()), Item::Other { response_type: "pause".into() }], 1600);
        assert_eq!(rendered, Rendered { texts: Vec::new(), list: None });
    }
}
