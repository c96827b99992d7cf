//! This release reads the messages that an older release left in the queues. The fixtures never change: a change of the
//! envelope that they do not survive needs a new schema, with a folder of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use broker::{Destination, Outgoing, Stage};
use message::clock::Timestamp;
use message::failure::FailureKind;
use message::{
    Address, Attempt, Body, Conversation, Envelope, Inbound, IntegrationId, Joined, Media, MessageId, Part, Receipt,
    ReceiptState, Replay, SCHEMA, Unread, Unreadable,
};
use serde_json::{Value, json};
use simulator::Answer;
use tests::house::{Backend, Blueprint, House};

fn id(digit: u8) -> MessageId {
    MessageId::parse(&format!("0191f3a0-0000-5000-8000-00000000000{digit}")).unwrap()
}

fn attempt(kind: FailureKind, code: Option<&str>, what: &str) -> Attempt {
    Attempt { at: "2026-11-22T09:30:05Z".parse().unwrap(), kind, code: code.map(str::to_owned), what: what.to_owned() }
}

fn media(name: &str, content_type: Option<&str>) -> Media {
    Media { url: format!("https://media.example/{name}"), content_type: content_type.map(str::to_owned) }
}

fn conversation(customer: &str, ours: &str) -> Conversation {
    let address = |text| Address::parse(text).unwrap();
    Conversation::new(address(customer), address(ours))
}

fn envelope(attempts: Vec<Attempt>, body: Body) -> Envelope {
    Envelope {
        schema: 1,
        id: id(1),
        integration: IntegrationId::parse("support").unwrap(),
        conversation: conversation("+13035550199", "+17205550100"),
        accepted_at: "2026-11-22T09:30:00.123456789Z".parse::<Timestamp>().unwrap(),
        attempts,
        replays: Vec::new(),
        trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
        body,
    }
}

fn inbound(name: &str, text: &str, media: Vec<Media>, joined: Vec<Joined>) -> Inbound {
    Inbound { provider_message_id: name.to_owned(), text: text.into(), media, joined }
}

fn part(index: u16, text: &str, media: Vec<Media>) -> Body {
    Body::Part(Part { turn: id(4), index, text: text.into(), media })
}

fn receipt(name: &str, part: Option<MessageId>, state: ReceiptState, code: Option<&str>) -> Body {
    Body::Receipt(Receipt { provider_message_id: name.to_owned(), part, state, code: code.map(str::to_owned) })
}

fn unread() -> Body {
    Body::Unread(Unread {
        why: "the field From is missing".to_owned(),
        method: "POST".to_owned(),
        content_type: Some("application/x-www-form-urlencoded".to_owned()),
        content: "Body=hello".into(),
    })
}

/// The envelope of each fixture of schema 1.
fn expected(name: &str) -> Envelope {
    use FailureKind::{Misconfigured, Permanent, Throttled, Transient, Unknown};
    let refused = attempt(Transient, None, "no connection");
    let (attempts, body) = match name {
        "minimal" => (vec![], Body::Inbound(inbound("SM1", "hello", vec![], vec![]))),
        "inbound_with_media" => {
            let two = vec![media("1", Some("image/png")), media("2", None)];
            (vec![], Body::Inbound(inbound("SM2", "", two, vec![])))
        }
        "burst" => {
            let second = inbound("SM4", "two 👍🏽", vec![], vec![]);
            let third = inbound("SM5", "three", vec![], vec![]);
            let joined = vec![
                Joined { id: id(2), attempts: vec![refused], replays: vec![], inbound: second },
                Joined { id: id(3), attempts: vec![], replays: vec![], inbound: third },
            ];
            (vec![], Body::Inbound(inbound("SM3", "one", vec![], joined)))
        }
        "part_with_media" => (vec![], part(2, "look", vec![media("3", Some("image/jpeg"))])),
        "part_after_attempts" => {
            let attempts = vec![
                refused,
                attempt(Throttled, Some("20429"), "too many requests"),
                attempt(Unknown, None, "no answer in time"),
                attempt(Permanent, Some("21211"), "not a number"),
                attempt(Misconfigured, Some("20003"), "wrong credentials"),
            ];
            (attempts, part(0, "Grüße", vec![]))
        }
        "part_replayed" => (vec![refused], part(0, "Grüße", vec![])),
        "receipt" => (vec![], receipt("SM6", Some(id(5)), ReceiptState::Failed, Some("30003"))),
        "receipt_without_part" => (vec![], receipt("SM7", None, ReceiptState::Delivered, None)),
        "inbound_on_a_channel" => (vec![], Body::Inbound(inbound("SM8", "hello", vec![], vec![]))),
        "inbound_from_a_sender_id" => (vec![], Body::Inbound(inbound("SM9", "hello", vec![], vec![]))),
        "unread" => (vec![], unread()),
        other => panic!("say what {other} holds"),
    };
    let replays = if name == "part_replayed" { replays() } else { vec![] };
    let conversation = match name {
        "inbound_on_a_channel" => conversation("rcs:+13035550199", "rcs:brand_agent"),
        "unread" => Conversation::default(),
        "inbound_from_a_sender_id" => conversation("AT&T", "+17205550100"),
        _ => conversation("+13035550199", "+17205550100"),
    };
    Envelope { replays, conversation, ..envelope(attempts, body) }
}

/// First the text that caused the part was replayed, then the part itself.
fn replays() -> Vec<Replay> {
    let replay = |at: &str, by: &str, reason: &str, attempts_before, inherited| Replay {
        at: at.parse().unwrap(),
        by: by.to_owned(),
        reason: reason.to_owned(),
        attempts_before,
        inherited,
    };
    vec![
        replay("2026-11-22T11:00:00Z", "ann@host", "assistant_unreachable", 0, true),
        replay("2026-11-22T12:00:00Z", "bob@host", "permanent", 1, false),
    ]
}

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/envelopes/v1");
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap())
    };
    std::fs::read_dir(folder).unwrap().map(file).collect()
}

#[test]
fn g2_every_envelope_of_a_past_schema_is_read_and_written_again() {
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), 11);
    for (name, payload) in fixtures {
        let read = Envelope::decode(&payload).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read, expected(&name), "{name}");
        assert_eq!(Envelope::decode(&read.encode()).unwrap(), read, "{name}");
    }
}

/// The keys of sessions, ledgers and pauses stay the same.
#[test]
fn g2_c15_a_conversation_has_the_key_that_past_releases_gave_it() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/keys/v1.json");
    let fixtures: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(fixtures.len(), 5);
    for fixture in fixtures {
        let field = |name: &str| fixture[name].as_str().unwrap();
        let integration = IntegrationId::parse(field("integration")).unwrap();
        let key = conversation(field("customer"), field("ours")).key(&integration);
        assert_eq!(key.to_hex(), field("key"), "{fixture}");
    }
}

/// Adds a field that no release knows to every object.
fn extend(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(extend);
            fields.insert("of_a_later_release".to_owned(), json!({ "x": [1] }));
        }
        Value::Array(values) => values.iter_mut().for_each(extend),
        _ => {}
    }
}

#[test]
fn g2_fields_that_a_newer_release_added_do_no_harm() {
    for (name, payload) in fixtures() {
        let mut value: Value = serde_json::from_slice(&payload).unwrap();
        extend(&mut value);
        let payload = serde_json::to_vec(&value).unwrap();
        assert_eq!(Envelope::decode(&payload).unwrap(), expected(&name), "{name}");
    }
}

#[tokio::test]
async fn g5_an_envelope_of_a_newer_schema_is_kept_for_the_release_that_reads_it() {
    let (_, payload) = fixtures().into_iter().find(|(name, _)| name == "minimal").unwrap();
    let mut value: Value = serde_json::from_slice(&payload).unwrap();
    value["schema"] = json!(SCHEMA + 1);
    value["body"] = json!("something else altogether");
    let payload = serde_json::to_vec(&value).unwrap();
    assert!(matches!(Envelope::decode(&payload), Err(Unreadable::Newer { found }) if found == SCHEMA + 1));

    let house = House::open(Blueprint::new(Backend::Embedded)).await;
    house.simulator.assistant().answer_with(|turn| Answer::text(turn.text.clone()));
    let destination = Destination::Work(Stage::Inbound);
    let newer = Outgoing { destination, id: None, key: None, trace: String::new(), payload: payload.into() };
    house.ports.broker.publish(&[newer]).await.unwrap();
    house.text("+13035550199", "and on it goes").await;
    assert_eq!(house.replies("+13035550199", 1).await, ["and on it goes"]);
    house.await_depths(|depths| depths.dead == 1).await;
    house.close(1).await;
}
