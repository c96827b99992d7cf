//! The body of a message call.
//!
//! The reserved variables go to both kinds of skill at once, because a client cannot know which kind an assistant has:
//! a dialog reads `$smsUserPhoneNumber` from `context.skills["main skill"].user_defined`, actions read it from
//! `context.skills["actions skill"].skill_variables`, and watsonx ignores a skill that is not there. What both read as
//! `${system_integrations}` or `$integrations` goes to `context.integrations`, numbers of customers under `private`,
//! which watsonx keeps out of its logs.

use serde_json::{Map, Value, json};

use super::input::sanitised;
use crate::assistant::{Input, Turn};

/// How many attachments watsonx takes at most.
const MAX_ATTACHMENTS: usize = 5;

/// The body for `turn`; `clears_media` if the session's last turn carried media, which this one must not inherit.
pub(super) fn body(turn: &Turn<'_>, clears_media: bool) -> Value {
    let mut input = match turn.input {
        Input::Choice(Value::Object(input)) => input.clone(),
        Input::Choice(_) => text_input(""),
        Input::Text(text) => text_input(&sanitised(text.expose())),
    };
    let attachments: Vec<Value> = turn
        .media
        .iter()
        .take(MAX_ATTACHMENTS)
        .map(|media| json!({ "url": media.url, "media_type": media.content_type }))
        .collect();
    if !attachments.is_empty() {
        input.insert("attachments".to_owned(), attachments.into());
    }
    with_input(turn, input, clears_media)
}

/// The body of the empty turn that we send ourselves when the assistant asks for it with `skip_user_input`.
pub(super) fn empty_body(turn: &Turn<'_>) -> Value {
    with_input(turn, text_input(""), false)
}

fn text_input(text: &str) -> Map<String, Value> {
    Map::from_iter([("message_type".to_owned(), "text".into()), ("text".to_owned(), text.into())])
}

fn with_input(turn: &Turn<'_>, mut input: Map<String, Value>, clears_media: bool) -> Value {
    // Without it a stateful answer has no context, and so neither `skip_user_input` nor a timeout of its own.
    let options = input.entry("options").or_insert_with(|| json!({}));
    if let Some(options) = options.as_object_mut() {
        options.insert("return_context".to_owned(), true.into());
    }
    let variables = variables(turn, clears_media);
    let customer = turn.conversation.customer.expose();
    json!({
        "input": input,
        "user_id": turn.user_id,
        "context": {
            "global": { "system": { "user_id": turn.user_id } },
            "skills": {
                "main skill": { "user_defined": variables },
                "actions skill": { "skill_variables": variables },
            },
            "integrations": {
                "channel": { "name": "SMS", "private": { "user": { "id": customer, "phone_number": customer } } },
                "text_messaging": {
                    "assistant_phone_number": turn.conversation.ours.expose(),
                    "private": { "user_phone_number": customer },
                },
            },
        },
    })
}

/// <https://cloud.ibm.com/docs/watson-assistant?topic=watson-assistant-sms-reference>
fn variables(turn: &Turn<'_>, clears_media: bool) -> Value {
    let mut variables = json!({
        "smsTenantPhoneNumber": turn.conversation.ours.expose(),
        "smsUserPhoneNumber": turn.conversation.customer.expose(),
        "smsSessionID": turn.sms_session,
    });
    let media = turn.media.iter().map(|m| json!({ "mediaURL": m.url, "mediaContentType": m.content_type }));
    if !turn.media.is_empty() {
        variables["smsMedia"] = media.collect();
    } else if clears_media {
        variables["smsMedia"] = Value::Null;
    }
    variables
}

#[cfg(test)]
mod tests {
    use message::clock::Clock;
    use message::{Address, Conversation, Media, MessageText};

    use super::*;
    use crate::assistant::Attempts;

    fn with_turn(input: Input<'_>, media: &[Media], check: impl Fn(&Turn<'_>)) {
        let number = |n| Address::parse(n).unwrap();
        let conversation = Conversation::new(number("+13035550199"), number("+17205550100"));
        let attempts = Attempts::new(Clock::system());
        check(&Turn {
            input,
            state: &Value::Null,
            user_id: "0123456789abcdef0123456789abcdef",
            conversation: &conversation,
            sms_session: "6b1c36a5-0d3d-5f2e-9d67-000000000000",
            media,
            attempts: &attempts,
        });
    }

    #[test]
    fn a_text_with_media_carries_every_reserved_variable() {
        let media = [Media { url: "https://example.com/cat".into(), content_type: Some("image/png".into()) }];
        let text = MessageText::from("hello\nthere");
        with_turn(Input::Text(&text), &media, |turn| insta::assert_json_snapshot!(body(turn, true)));
    }

    #[test]
    fn a_choice_goes_unchanged_but_for_the_wish_for_context() {
        let input =
            json!({ "text": "x", "suggestion_id": "s-1", "options": { "alternate_intents": true }, "intents": [] });
        with_turn(Input::Choice(&input), &[], |turn| {
            let sent = &body(turn, false)["input"];
            let mut expected = input.clone();
            expected["options"]["return_context"] = true.into();
            assert_eq!(*sent, expected);
        });
    }

    #[test]
    fn media_of_the_last_turn_are_cleared_once() {
        let text = MessageText::from("x");
        with_turn(Input::Text(&text), &[], |turn| {
            let variables = |body: Value| body["context"]["skills"]["main skill"]["user_defined"].clone();
            assert_eq!(variables(body(turn, true)).get("smsMedia"), Some(&Value::Null));
            assert_eq!(variables(body(turn, false)).get("smsMedia"), None);
        });
    }
}
