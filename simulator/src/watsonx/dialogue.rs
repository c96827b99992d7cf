//! The built-in dialogue. It is small and deterministic, and has one answer of each kind that matters on a phone.

use serde_json::{Value, json};

use super::handle::{Answer, Turn};

/// Answers a turn; `picture` is the URL that the image item shows.
pub(super) fn answer(turn: &Turn, picture: &str) -> Answer {
    if let Some(chosen) = turn.request.pointer("/input/suggestion_id").and_then(Value::as_str) {
        return Answer::text(format!("You meant {}. Good choice.", chosen.replace('-', " ")));
    }
    let text = turn.text.trim();
    let lower = text.to_lowercase();
    match lower.as_str() {
        "" | "hello" | "hi" | "start" | "menu" => greeting(),
        "opening hours" | "hours" => Answer::text("We are open Monday to Friday, 9 am to 5 pm."),
        "picture" | "show me a picture" => image(picture),
        "order" => suggestions(),
        "several" | "tell me a story" => story(),
        "count" => Answer::text(format!("This is turn {} of our conversation.", turn.earlier_turns + 1)),
        "bye" | "goodbye" => {
            Answer::items([say("Goodbye. Text again whenever you like."), json!({ "response_type": "end_session" })])
        }
        _ => echo(text)
            .unwrap_or_else(|| Answer::text(format!("You said: {text}. Text \"hello\" to see what I can do."))),
    }
}

/// The rest of the text after "echo ", word for word.
fn echo(text: &str) -> Option<Answer> {
    let (word, rest) = text.split_once(' ')?;
    word.eq_ignore_ascii_case("echo").then(|| Answer::text(rest))
}

fn say(text: &str) -> Value {
    json!({ "response_type": "text", "text": text })
}

fn choice(label: &str, input: &str) -> Value {
    json!({ "label": label, "value": { "input": { "text": input } } })
}

fn greeting() -> Answer {
    Answer::items([
        say("Hello, this is the demo assistant."),
        json!({
            "response_type": "option",
            "title": "What can I do for you?",
            "preference": "button",
            "options": [
                choice("Opening hours", "opening hours"),
                choice("See a picture", "picture"),
                choice("Track an order", "order"),
                choice("Hear a story", "several"),
            ],
        }),
    ])
}

fn image(url: &str) -> Answer {
    Answer::items([json!({
        "response_type": "image",
        "source": url,
        "title": "The old telephone exchange",
        "description": "Every line finds its way.",
        "alt_text": "A switchboard with many cords",
    })])
}

fn suggestions() -> Answer {
    let suggestion = |label: &str, id: &str| {
        json!({
            "label": label,
            "value": { "input": { "message_type": "text", "text": "order", "suggestion_id": id } },
        })
    };
    Answer::items([json!({
        "response_type": "suggestion",
        "title": "Did you mean:",
        "suggestions": [
            suggestion("Where is my order?", "track-order"),
            suggestion("Change my order", "change-order"),
            suggestion("None of the above", "none-of-the-above"),
        ],
    })])
}

fn story() -> Answer {
    Answer::items([
        say("Once, every call was connected by hand."),
        json!({ "response_type": "pause", "time": 500, "typing": true }),
        say("An operator heard a number and plugged in a cord."),
        say("More at https://en.wikipedia.org/wiki/Telephone_switchboard"),
    ])
}
