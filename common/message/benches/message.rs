//! Measures the cost of each message: parsing numbers, deriving ids, choosing a partition, coding the envelope.
#![allow(clippy::unwrap_used, reason = "a benchmark whose input is wrong has nothing to measure")]

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use message::clock::Timestamp;
use message::failure::Failure;
use message::{
    Address, Body, Conversation, Envelope, Inbound, IntegrationId, MessageId, Part, Receipt, ReceiptState, SCHEMA,
};

const SID: &str = "SM0123456789abcdef0123456789abcdef";
const WORDS: &str = "Hi, my order 4711 has not arrived yet & I am away from Monday on. Can you send it to my office?";

fn integration() -> IntegrationId {
    IntegrationId::parse("support").unwrap()
}

fn conversation() -> Conversation {
    Conversation::new(Address::parse("+13035550199").unwrap(), Address::parse("+17205550100").unwrap())
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_750_000_000 + second).unwrap()
}

/// Text number `number` of a conversation.
fn text(number: i64) -> Envelope {
    let provider_message_id = format!("{SID}{number}");
    Envelope {
        schema: SCHEMA,
        id: MessageId::of_provider(&integration(), &provider_message_id),
        integration: integration(),
        conversation: conversation(),
        accepted_at: at(number),
        attempts: Vec::new(),
        replays: Vec::new(),
        trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        body: Body::Inbound(Inbound { provider_message_id, text: WORDS.into(), media: Vec::new(), joined: Vec::new() }),
    }
}

/// The envelopes that a queue may hold, by name.
fn envelopes() -> [(&'static str, Envelope); 5] {
    let id = text(0).id.derive("part/0");
    let part = |words: &str| {
        let part = Part { turn: text(0).id, index: 0, text: words.into(), media: Vec::new() };
        text(0).causing(id, Body::Part(part))
    };
    let mut tried = part(WORDS);
    for second in 0..5 {
        tried.record_attempt(at(second), &Failure::transient("the provider answered 503 Service Unavailable"));
    }
    let mut burst = text(0);
    (1..5).for_each(|number| burst.join(text(number)));
    let state = ReceiptState::Delivered;
    let receipt = Receipt { provider_message_id: SID.to_owned(), part: Some(id), state, code: None };
    [
        ("text", text(0)),
        ("burst of 5 texts", burst),
        ("part, 1,600 characters", part(&WORDS.repeat(17))),
        ("part after 5 attempts", tried),
        ("receipt", text(0).causing(id.derive("receipt"), Body::Receipt(receipt))),
    ]
}

fn envelope(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope");
    for (name, envelope) in envelopes() {
        let payload = envelope.encode();
        assert_eq!(Envelope::decode(&payload).unwrap(), envelope);
        group.bench_function(format!("encode {name}"), |b| b.iter(|| black_box(&envelope).encode()));
        group.bench_function(format!("decode {name}"), |b| b.iter(|| Envelope::decode(black_box(&payload)).unwrap()));
    }
}

fn number(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("number");
    let spellings = [
        ("parse E.164", "+13035550199"),
        ("parse E.164 with punctuation", "+1 (303) 555-0199"),
        ("parse short code", "32665"),
        ("parse WhatsApp address", "whatsapp:+13035550199"),
    ];
    for (name, spelling) in spellings {
        group.bench_function(name, |b| b.iter(|| Address::parse(black_box(spelling)).unwrap()));
    }
    let customer = conversation().customer;
    group.bench_function("country code", |b| b.iter(|| black_box(&customer).country_code().unwrap()));
}

fn name(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("name");
    let (integration, conversation) = (integration(), conversation());
    let key = || black_box(&conversation).key(black_box(&integration));
    group.bench_function("conversation key", |b| b.iter(key));
    let key = key();
    group.bench_function("partition of 64", |b| b.iter(|| black_box(key).partition(black_box(64))));
    group.bench_function("message id", |b| b.iter(|| MessageId::of_provider(black_box(&integration), black_box(SID))));
    let turn = MessageId::of_provider(&integration, SID);
    group.bench_function("part id", |b| b.iter(|| black_box(turn).derive(black_box("part/0"))));
}

fn main() {
    let criterion = Criterion::default().warm_up_time(Duration::from_millis(500));
    let mut criterion = criterion.measurement_time(Duration::from_secs(2)).configure_from_args();
    envelope(&mut criterion);
    number(&mut criterion);
    name(&mut criterion);
    criterion.final_summary();
}
