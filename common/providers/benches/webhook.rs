//! What one webhook request costs before it is published: the provider's proof, then the text or receipt itself.
#![allow(clippy::unwrap_used, reason = "a benchmark whose input is wrong has nothing to measure")]

use std::hint::black_box;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use criterion::Criterion;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use providers::intelepeer::{IntelepeerAuth, IntelepeerSettings, IntelepeerWebhook};
use providers::twilio::{TwilioSettings, TwilioWebhook};
use providers::{UnknownOutcome, Webhook, WebhookRequest};
use secret::Secret;
use serde_json::json;
use sha1::Sha1;
use sha2::Sha256;

const PUBLIC_URL: &str = "https://sms.example.com";
const MESSAGES: &str = "/webhooks/support/messages";
const STATUS: &str = "/webhooks/support/status?part=5f0c3d1e-58a1-5b0e-9d3f-2f6f4a8f1c11";
const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const OLD_TOKEN: &str = "fedcba9876543210fedcba9876543210";
const WORDS: &str = "Hi, my order 4711 has not arrived yet & I am away from Monday on. Can you send it to my office?";

/// A webhook request with owned fields.
struct Request {
    target: &'static str,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    fn borrowed(&self) -> WebhookRequest<'_> {
        WebhookRequest { method: &Method::POST, target: self.target, headers: &self.headers, body: &self.body }
    }

    /// A form as Twilio posts and signs it.
    fn of_twilio<M: Mac + KeyInit>(target: &'static str, fields: &[(&str, &str)], settings: Option<&str>) -> Self {
        let mut sorted = fields.to_vec();
        sorted.sort_unstable();
        let mut mac = <M as KeyInit>::new_from_slice(TOKEN.as_bytes()).unwrap();
        mac.update(format!("{PUBLIC_URL}{target}").as_bytes());
        sorted.iter().for_each(|(name, value)| mac.update(format!("{name}{value}").as_bytes()));
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let mut headers = HeaderMap::new();
        headers.insert("x-twilio-signature", signature.parse().unwrap());
        if let Some(settings) = settings {
            headers.insert("x-twilio-webhooks-signature-settings", settings.parse().unwrap());
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded; charset=UTF-8"));
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish().into_bytes();
        Self { target, headers, body }
    }

    fn of_intelepeer() -> Self {
        let body = json!({
            "refid": "b7a4c7f0-3a1e-4f0c-9c55-0b6f8f1f2d11", "from": "+13035550199", "to": "+17205550100",
            "message": WORDS, "signature": TOKEN, "timestamp": "2025-06-01T12:00:00Z", "direction": "inbound",
        });
        Self { target: MESSAGES, headers: HeaderMap::new(), body: body.to_string().into_bytes() }
    }
}

/// The fields of <https://www.twilio.com/docs/messaging/guides/webhook-request>, in the order in which they come.
fn text_fields(words: &str) -> Vec<(&'static str, &str)> {
    vec![
        ("ToCountry", "US"),
        ("ToState", "CO"),
        ("SmsMessageSid", "SM0123456789abcdef0123456789abcdef"),
        ("NumMedia", "0"),
        ("ToCity", "DENVER"),
        ("FromZip", "80202"),
        ("SmsSid", "SM0123456789abcdef0123456789abcdef"),
        ("FromState", "CO"),
        ("SmsStatus", "received"),
        ("FromCity", "DENVER"),
        ("Body", words),
        ("FromCountry", "US"),
        ("To", "+17205550100"),
        ("ToZip", "80014"),
        ("NumSegments", "1"),
        ("MessageSid", "SM0123456789abcdef0123456789abcdef"),
        ("AccountSid", ACCOUNT),
        ("From", "+13035550199"),
        ("ApiVersion", "2010-04-01"),
    ]
}

fn receipt_fields() -> Vec<(&'static str, &'static str)> {
    vec![
        ("SmsSid", "SM0123456789abcdef0123456789abcdef"),
        ("SmsStatus", "delivered"),
        ("MessageStatus", "delivered"),
        ("To", "+13035550199"),
        ("MessageSid", "SM0123456789abcdef0123456789abcdef"),
        ("AccountSid", ACCOUNT),
        ("From", "+17205550100"),
        ("ApiVersion", "2010-04-01"),
    ]
}

fn twilio(criterion: &mut Criterion) {
    let webhook = |tokens: &[&str]| {
        let tokens = tokens.iter().copied().map(Secret::from).collect();
        TwilioWebhook::new(&TwilioSettings::new(ACCOUNT.to_owned(), tokens), &[PUBLIC_URL.to_owned()])
    };
    let (one, two) = (webhook(&[TOKEN]), webhook(&[OLD_TOKEN, TOKEN]));
    let longest = WORDS.repeat(17);
    let text = Request::of_twilio::<Hmac<Sha1>>(MESSAGES, &text_fields(WORDS), None);
    let long = Request::of_twilio::<Hmac<Sha1>>(MESSAGES, &text_fields(&longest), None);
    let settings = Some("key=1,algorithm=HMAC_SHA256");
    let sha256 = Request::of_twilio::<Hmac<Sha256>>(MESSAGES, &text_fields(WORDS), settings);
    let receipt = Request::of_twilio::<Hmac<Sha1>>(STATUS, &receipt_fields(), None);

    let mut group = criterion.benchmark_group("twilio");
    let cases = [
        ("verify text", &one, &text),
        ("verify text, two tokens", &two, &text),
        ("verify text, HMAC-SHA256", &one, &sha256),
        ("verify text, 1,600 characters", &one, &long),
        ("verify receipt", &one, &receipt),
    ];
    for (name, webhook, request) in cases {
        group.bench_function(name, |b| b.iter(|| webhook.verify(black_box(&request.borrowed())).unwrap()));
    }
    group.bench_function("read text", |b| b.iter(|| one.read_message(black_box(&text.borrowed())).unwrap()));
    let read = || one.read_receipt(black_box(&receipt.borrowed())).unwrap().unwrap();
    group.bench_function("read receipt", |b| b.iter(read));
}

fn intelepeer(criterion: &mut Criterion) {
    let webhook = IntelepeerWebhook::new(&IntelepeerSettings {
        account_secrets: vec![Secret::from(TOKEN)],
        auth: IntelepeerAuth::Token(Secret::from("token")),
        base_url: String::new(),
        login_url: String::new(),
        unknown_outcome: UnknownOutcome::Resend,
    });
    let text = Request::of_intelepeer();
    let mut group = criterion.benchmark_group("intelepeer");
    group.bench_function("verify text", |b| b.iter(|| webhook.verify(black_box(&text.borrowed())).unwrap()));
    group.bench_function("read text", |b| b.iter(|| webhook.read_message(black_box(&text.borrowed())).unwrap()));
}

fn main() {
    let criterion = Criterion::default().warm_up_time(Duration::from_millis(500));
    let mut criterion = criterion.measurement_time(Duration::from_secs(2)).configure_from_args();
    twilio(&mut criterion);
    intelepeer(&mut criterion);
    criterion.final_summary();
}
