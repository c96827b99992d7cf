//! The answer of a message call, read leniently: what cannot be understood is left out, never an error of the turn.

use message::MessageText;
use message::failure::Failure;
use serde_json::{Value, json};

use crate::assistant::{Choice, ChoiceList, Item};

/// Our name among the values of `channels`.
const CHANNEL: &str = "text_messaging";
/// The longest timeout an assistant may ask for.
const MAX_RESPONSE_TIMEOUT_MS: u64 = 300_000;

/// What an answer says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Reply {
    /// What to show.
    pub(super) items: Vec<Item>,
    /// Whether the session is over.
    pub(super) ends_session: bool,
    /// Whether we are to send an empty turn at once instead of waiting for the customer.
    pub(super) skips_user_input: bool,
    /// `smsConversationResponseTimeout` in milliseconds, at most 5 minutes, if it is set.
    pub(super) response_timeout_ms: Option<u64>,
}

impl Reply {
    /// Reads an answer.
    ///
    /// # Errors
    /// When it has no `output`: then it is no answer of watsonx, whatever its status was.
    pub(super) fn read(body: &Value) -> Result<Self, Failure> {
        let output = body.get("output").filter(|output| output.is_object());
        let output = output.ok_or_else(|| Failure::unknown("the assistant's answer has no output"))?;
        let generic = output.get("generic").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let visible = || generic.iter().filter(|item| is_visible(item));
        let is_end = |item: &Value| response_type(item) == "end_session";
        Ok(Self {
            items: visible().filter(|item| !is_end(item)).map(item).collect(),
            ends_session: visible().any(is_end),
            skips_user_input: body.pointer("/context/global/system/skip_user_input") == Some(&Value::Bool(true)),
            response_timeout_ms: response_timeout_ms(body),
        })
    }
}

/// Absent `channels` mean all channels; a list hides the item from those it lacks.
fn is_visible(item: &Value) -> bool {
    let Some(channels) = item.get("channels").and_then(Value::as_array) else { return true };
    channels.iter().any(|listed| listed.get("channel").and_then(Value::as_str) == Some(CHANNEL))
}

fn response_type(item: &Value) -> &str {
    item.get("response_type").and_then(Value::as_str).unwrap_or_default()
}

fn item(item: &Value) -> Item {
    let response_type = response_type(item);
    let shown = match response_type {
        "text" => text(item, "text").map(Item::Text),
        "option" => list(item, "options").map(Item::Options),
        "suggestion" => list(item, "suggestions").map(Item::Suggestions),
        _ => None,
    };
    shown.unwrap_or_else(|| Item::Other { response_type: response_type.to_owned() })
}

fn list(item: &Value, choices: &str) -> Option<ChoiceList> {
    let choices = item.get(choices)?.as_array()?.iter().filter_map(choice).collect();
    Some(ChoiceList { title: text(item, "title").unwrap_or_default(), description: text(item, "description"), choices })
}

fn choice(choice: &Value) -> Option<Choice> {
    let label = text(choice, "label")?;
    let input = choice.pointer("/value/input").filter(|input| input.is_object()).cloned();
    let input = input.unwrap_or_else(|| json!({ "message_type": "text", "text": label.expose() }));
    Some(Choice { label, input })
}

fn text(item: &Value, field: &str) -> Option<MessageText> {
    item.get(field)?.as_str().map(MessageText::from)
}

fn response_timeout_ms(body: &Value) -> Option<u64> {
    let places = [
        "/context/skills/main skill/user_defined/smsConversationResponseTimeout",
        "/context/skills/actions skill/skill_variables/smsConversationResponseTimeout",
    ];
    let milliseconds = |value: &Value| value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
    let set = places.iter().find_map(|place| body.pointer(place).and_then(milliseconds))?;
    (set > 0).then_some(set.min(MAX_RESPONSE_TIMEOUT_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(generic: Value) -> Reply {
        Reply::read(&json!({ "output": { "generic": generic } })).unwrap()
    }

    #[test]
    fn texts_options_and_suggestions_become_items() {
        let reply = read(json!([
            { "response_type": "text", "text": "Hi" },
            { "response_type": "option", "title": "Pick", "description": "one", "options": [
                { "label": "A", "value": { "input": { "text": "a!" } } },
                { "label": "B", "value": {} },
            ] },
            { "response_type": "suggestion", "title": "Did you mean:", "suggestions": [
                { "label": "C", "value": { "input": { "text": "c", "suggestion_id": "s1" } } },
            ] },
            { "response_type": "hologram" },
            { "response_type": "text" },
            7,
        ]));
        let choice = |label: &str, input| Choice { label: label.into(), input };
        let other = |response_type: &str| Item::Other { response_type: response_type.into() };
        let expected = [
            Item::Text("Hi".into()),
            Item::Options(ChoiceList {
                title: "Pick".into(),
                description: Some("one".into()),
                choices: vec![
                    choice("A", json!({ "text": "a!" })),
                    choice("B", json!({ "message_type": "text", "text": "B" })),
                ],
            }),
            Item::Suggestions(ChoiceList {
                title: "Did you mean:".into(),
                description: None,
                choices: vec![choice("C", json!({ "text": "c", "suggestion_id": "s1" }))],
            }),
            other("hologram"),
            other("text"),
            other(""),
        ];
        assert_eq!(reply.items, expected);
    }

    #[test]
    fn a_channels_list_hides_items_from_channels_it_lacks() {
        let reply = read(json!([
            { "response_type": "text", "text": "all" },
            { "response_type": "text", "text": "ours", "channels": [{ "channel": "chat" }, { "channel": "text_messaging" }] },
            { "response_type": "text", "text": "theirs", "channels": [{ "channel": "chat" }] },
            { "response_type": "end_session", "channels": [{ "channel": "voice_telephony" }] },
        ]));
        assert_eq!(reply.items, [Item::Text("all".into()), Item::Text("ours".into())]);
        assert!(!reply.ends_session);
        assert!(read(json!([{ "response_type": "end_session" }])).ends_session);
    }

    #[test]
    fn context_tells_whether_to_go_on_and_how_long_to_wait() {
        let body = json!({ "output": {}, "context": {
            "global": { "system": { "skip_user_input": true } },
            "skills": { "actions skill": { "skill_variables": { "smsConversationResponseTimeout": "1500" } } },
        } });
        let reply = Reply::read(&body).unwrap();
        assert!(reply.skips_user_input);
        assert_eq!(reply.response_timeout_ms, Some(1500));
        assert!(Reply::read(&json!({ "hello": 1 })).is_err());
    }
}
