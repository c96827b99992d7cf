//! What an assistant's answer costs on its way to parts: JSON, items, rendering, cutting; and what a choice costs.
//!
//! Reading and rendering are the worker's own, so their files are compiled in here too: no other crate needs them, and
//! a benchmark is no reason to make them public.
#![allow(clippy::unwrap_used, reason = "a benchmark whose input is wrong has nothing to measure")]

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use serde_json::{Value, json};
// The files below know it as `crate::assistant`.
use worker::assistant::{self, Item};

#[allow(dead_code, unused_imports, reason = "the turn uses more of it, and its tests are run elsewhere")]
#[path = "../src/render/mod.rs"]
mod render;
#[allow(dead_code, unused_imports, reason = "the client uses more of it, and its tests are run elsewhere")]
#[path = "../src/assistant/watsonx/reply.rs"]
mod reply;

use render::render;
use reply::Reply;

/// The longest part that Twilio takes, and so the default.
const MAX_UNITS: usize = 1600;
const SENTENCES: &str = "Your order 4711 left our warehouse on Friday. It should be with you on Monday between 9:00 and \
    12:00, or a day later if you live outside the city. You need not be at home: the driver leaves it with a neighbour. ";
const HTML: &str = "<p>You can <b>return</b> what you bought within 30&nbsp;days. Please keep the <i>receipt</i>.</p>\n\
    <ul>\n<li>Online: <a href=\"https://shop.example.com/returns?order=4711&amp;lang=en\">start a return</a></li>\n\
    <li>In a store: bring the parcel and the receipt</li>\n</ul>\n\n";
const EMOJI: &str = "Thank you 👍🏽 and welcome to the family 👩‍👩‍👧‍👦! We ship to 🇩🇪 🇫🇷 🇺🇸, cafe\u{301} included ☕️🎉. ";
const LINKS: &str =
    "Track it at https://track.example.com/p/0123456789abcdef?lang=en&from=sms or see www.example.com/help. ";

/// An answer as watsonx sends it, with the context that a stateful call returns.
fn answer(generic: &Value) -> Value {
    let variables = json!({
        "smsTenantPhoneNumber": "+17205550100", "smsUserPhoneNumber": "+13035550199",
        "smsSessionID": "6b1c36a5-0d3d-5f2e-9d67-000000000000", "order": "4711", "isKnown": true,
    });
    json!({
        "output": {
            "generic": generic,
            "intents": [{ "intent": "order_status", "confidence": 0.953, "skill": "actions skill" }],
            "entities": [{ "entity": "sys-number", "location": [12, 16], "value": "4711", "confidence": 1 }],
        },
        "user_id": "0123456789abcdef0123456789abcdef",
        "context": {
            "global": {
                "system": { "user_id": "0123456789abcdef0123456789abcdef", "turn_count": 3, "skill_reference_id": "1f" },
                "session_id": "7c2f7f5e-54e8-4b8f-9d30-2f0a7b1f1c55",
            },
            "skills": {
                "main skill": { "user_defined": variables, "system": { "state": "eyJzZXNzaW9uX2lkIjoiN2MyZiJ9" } },
                "actions skill": { "skill_variables": variables },
            },
        },
    })
}

fn options() -> Value {
    let labels = ["Where is my order?", "Return something", "Opening hours", "Change my address", "Talk to a person"];
    let option = |label: &&str| json!({ "label": label, "value": { "input": { "message_type": "text", "text": label, "suggestion_id": "0" } } });
    let options: Vec<_> = labels.iter().map(option).collect();
    json!([
        { "response_type": "text", "text": "Welcome back!" },
        { "response_type": "option", "title": "What can I do for you?", "preference": "button", "options": options },
    ])
}

fn answers(criterion: &mut Criterion) {
    let text = |text: &str| json!([{ "response_type": "text", "text": text }]);
    let cases = [
        ("short text", text("Your order is on its way.")),
        ("list of 5 options", options()),
        ("HTML, 6,000 characters", text(&HTML.repeat(20))),
    ];
    let mut group = criterion.benchmark_group("answer");
    for (name, generic) in cases {
        let body = answer(&generic).to_string().into_bytes();
        let value: Value = serde_json::from_slice(&body).unwrap();
        let items = Reply::read(&value).unwrap().items;
        group.bench_function(format!("parse {name}"), |b| {
            b.iter(|| serde_json::from_slice::<Value>(black_box(&body)).unwrap());
        });
        group.bench_function(format!("read {name}"), |b| b.iter(|| Reply::read(black_box(&value)).unwrap()));
        group.bench_function(format!("render {name}"), |b| b.iter(|| render(black_box(&items), MAX_UNITS)));
    }
    let items = Reply::read(&answer(&options())).unwrap().items;
    let list = render(&items, MAX_UNITS).list.unwrap();
    group.bench_function("choose by number", |b| b.iter(|| list.choose(black_box("4.")).unwrap()));
    group.bench_function("choose by label", |b| b.iter(|| list.choose(black_box("talk to a person")).unwrap()));
}

/// Whole texts through [`render`], which does little more with them than cut.
fn cuts(criterion: &mut Criterion) {
    let filled = |piece: &str, chars: usize| piece.chars().cycle().take(chars).collect::<String>();
    let cases = [
        ("ASCII, 1,600 characters", filled(SENTENCES, 1_600)),
        ("ASCII, 16,000 characters", filled(SENTENCES, 16_000)),
        ("ASCII, 160,000 characters", filled(SENTENCES, 160_000)),
        ("one word, 16,000 characters", filled("x", 16_000)),
        ("emoji, 16,000 characters", filled(EMOJI, 16_000)),
        ("links, 16,000 characters", filled(LINKS, 16_000)),
    ];
    let mut group = criterion.benchmark_group("cut");
    for (name, text) in cases {
        let items = [Item::Text(text.as_str().into())];
        assert!(!render(&items, MAX_UNITS).texts.is_empty(), "{name}");
        group.bench_function(name, |b| b.iter(|| render(black_box(&items), MAX_UNITS)));
    }
}

fn main() {
    let criterion = Criterion::default().warm_up_time(Duration::from_millis(500));
    let mut criterion = criterion.measurement_time(Duration::from_secs(2)).configure_from_args();
    answers(&mut criterion);
    cuts(&mut criterion);
    criterion.final_summary();
}
