//! Every signature vector, made with Twilio's own libraries, is judged through the provider's public front door.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, and so may what it is made of")]

use std::collections::BTreeMap;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use integration::{AssistantSettings, Integration, Options, ScriptedSettings};
use message::IntegrationId;
use providers::ProviderSettings;
use providers::twilio::TwilioSettings;
use providers::{Refusal, WebhookRequest, webhook};
use serde::Deserialize;

const SIGNATURE: HeaderName = HeaderName::from_static("x-twilio-signature");
const SETTINGS: HeaderName = HeaderName::from_static("x-twilio-webhooks-signature-settings");

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    method: String,
    content_type: String,
    token: String,
    algorithm: String,
    request_url: String,
    params: BTreeMap<String, OneOrMore>,
    body: Option<String>,
    signature: String,
    expect_valid: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// A request as the vector describes it. A test may spoil it before it is judged.
#[derive(Clone)]
struct Case {
    tokens: Vec<String>,
    public_url: String,
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Case {
    fn of(vector: &Vector) -> Self {
        let (scheme, rest) = vector.request_url.split_once("://").unwrap();
        let (authority, target) = rest.split_at(rest.find('/').unwrap());
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, values) in &vector.params {
            match values {
                OneOrMore::One(value) => form.append_pair(name, value),
                OneOrMore::More(values) => form.extend_pairs(values.iter().map(|value| (name, value))),
            };
        }
        let method: Method = vector.method.parse().unwrap();
        let posted = if method == Method::GET { String::new() } else { form.finish() };
        let mut headers = HeaderMap::from_iter([(SIGNATURE, HeaderValue::from_str(&vector.signature).unwrap())]);
        if !vector.content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(&vector.content_type).unwrap());
        }
        if vector.algorithm != "HMAC_SHA1" {
            let settings = format!("key=WK1,algorithm={}", vector.algorithm);
            headers.insert(SETTINGS, HeaderValue::from_str(&settings).unwrap());
        }
        Self {
            tokens: vec![vector.token.clone()],
            public_url: format!("{scheme}://{authority}"),
            method,
            target: target.to_owned(),
            headers,
            body: vector.body.clone().unwrap_or(posted).into_bytes(),
        }
    }

    fn judge(&self) -> Result<(), Refusal> {
        let settings = TwilioSettings {
            account_sid: "AC0123456789abcdef0123456789abcdef".to_owned(),
            auth_tokens: self.tokens.iter().map(|token| token.as_str().into()).collect(),
            base_url: "https://api.twilio.com".to_owned(),
            api_key: None,
            messaging_service_sid: None,
        };
        let integration = Integration {
            id: IntegrationId::parse("support").unwrap(),
            numbers: Vec::new(),
            provider: ProviderSettings::Twilio(settings),
            assistant: AssistantSettings::Scripted(ScriptedSettings::default()),
            options: Options::default(),
        };
        webhook(&integration.provider, std::slice::from_ref(&self.public_url)).verify(&WebhookRequest {
            method: &self.method,
            target: &self.target,
            headers: &self.headers,
            body: &self.body,
        })
    }

    fn set(&mut self, header: HeaderName, text: &str) {
        self.headers.insert(header, HeaderValue::from_str(text).unwrap());
    }

    /// This request after `change`.
    fn but(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }
}

fn vectors() -> Vec<Vector> {
    let read: Vectors = serde_json::from_str(include_str!("../vectors/twilio_signature.json")).unwrap();
    assert_eq!(read.vectors.len(), 18);
    read.vectors
}

#[test]
fn every_vector_is_judged_as_twilios_libraries_judge_it() {
    for vector in vectors() {
        let verdict = Case::of(&vector).judge();
        assert_eq!(verdict.is_ok(), vector.expect_valid, "{}: {verdict:?}", vector.name);
    }
}

#[test]
fn every_valid_vector_is_refused_once_anything_signed_is_changed() {
    for vector in vectors().iter().filter(|vector| vector.expect_valid) {
        let case = Case::of(vector);
        // A request without a body gets one, because there is none to remove.
        let with_body =
            |body: &[u8]| case.but(|c| c.body = if c.body.is_empty() { b"x".to_vec() } else { body.to_vec() });
        let body_changed = [
            ("longer body", case.but(|c| c.body.extend(b"&x=y"))),
            ("no body", with_body(b"")),
            (
                "no body, said to be a form",
                with_body(b"").but(|c| c.set(CONTENT_TYPE, "application/x-www-form-urlencoded")),
            ),
            ("a form without fields", with_body(b"&=&")),
            ("said to be a GET", case.but(|c| c.method = Method::GET)),
        ];
        // A GET's body is neither signed nor read.
        let body_changed = body_changed.into_iter().filter(|_| case.method != Method::GET);
        let spoiled = [
            ("longer target", case.but(|c| c.target.push_str("&x=y"))),
            ("other path", case.but(|c| c.target.insert(1, 'x'))),
            ("other host", case.but(|c| c.public_url.push_str(".evil.example"))),
            ("other scheme", case.but(|c| c.public_url = c.public_url.replace("https", "http"))),
            ("wrong token", case.but(|c| c.tokens = vec!["another".to_owned()])),
            ("empty token", case.but(|c| c.tokens = vec![String::new()])),
            ("no token", case.but(|c| c.tokens.clear())),
        ];
        for (what, request) in spoiled.into_iter().chain(body_changed) {
            assert!(matches!(request.judge(), Err(Refusal::Unproven(_))), "{}: {what}", vector.name);
        }
    }
}

#[test]
fn every_valid_vector_is_refused_without_its_whole_signature() {
    for vector in vectors().iter().filter(|vector| vector.expect_valid) {
        let case = Case::of(vector);
        let signed = |text: &str| case.but(|c| c.set(SIGNATURE, text));
        let (first, _) = vector.signature.split_at(vector.signature.len() / 2);
        let spoiled = [
            ("missing", case.but(|c| drop(c.headers.remove(SIGNATURE)))),
            ("empty", signed("")),
            ("truncated", signed(first)),
            ("truncated to whole bytes", signed(vector.signature.split_at(4).0)),
            ("not base64", signed("%%%")),
            ("repeated", case.but(|c| assert!(c.headers.append(SIGNATURE, HeaderValue::from_static("AAAA"))))),
            ("in capitals", signed(&vector.signature.to_uppercase())),
        ];
        for (what, request) in spoiled {
            assert!(matches!(request.judge(), Err(Refusal::Unproven(_))), "{}: {what}", vector.name);
        }
    }
}

#[test]
fn a_token_that_is_being_rotated_is_believed_beside_the_new_one() {
    for vector in vectors().iter().filter(|vector| vector.expect_valid) {
        let rotated = Case::of(vector).but(|c| c.tokens.insert(0, "the-new-token".to_owned()));
        assert_eq!(rotated.judge(), Ok(()), "{}", vector.name);
    }
}

#[test]
fn the_algorithm_that_is_asked_for_is_the_one_that_is_used() {
    for vector in vectors().iter().filter(|vector| vector.expect_valid) {
        let case = Case::of(vector);
        for settings in
            ["", "key=WK1", "algorithm=", "algorithm=none", "key=WK1,algorithm=HMAC_MD5", "algorithm=hmac_sha1"]
        {
            let asked = case.but(|c| c.set(SETTINGS, settings));
            assert!(asked.judge().is_err(), "{}: {settings:?}", vector.name);
        }
        let other = if vector.algorithm == "HMAC_SHA1" { "HMAC_SHA256" } else { "HMAC_SHA1" };
        let asked = case.but(|c| c.set(SETTINGS, &format!("key=WK1, algorithm={other}")));
        assert!(asked.judge().is_err(), "{}: {other}", vector.name);
    }
}
