//! The front door on real HTTP: what it answers to bad input of every kind, that such answers say no word a provider
//! could text to a customer, and that nothing is half done.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use common::broker::{Depths, Stage};
use common::message::Envelope;
use http::{Method, StatusCode};
use simulator::SimulatorConfig;
use tests::house::{Backend, Blueprint, House, Provider};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A house without workers, so that whatever is accepted stays to be seen.
async fn idle_house(provider: Provider) -> House {
    House::open(Blueprint { workers: 0, provider, ..Blueprint::new(Backend::Embedded) }).await
}

struct Asked {
    status: StatusCode,
    content_type: Option<String>,
    body: String,
}

async fn ask(house: &House, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Asked {
    let client = common::http::client(Duration::from_secs(30)).unwrap();
    let mut request = client.request(method, format!("{}{path}", house.url)).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let content_type = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    Asked { status: response.status(), content_type, body: response.text().await.unwrap() }
}

impl Asked {
    /// A refusal with this status: problem details for machines and people, and nothing a provider would send on.
    fn assert_problem(&self, status: u16, case: &str) {
        assert_eq!(self.status.as_u16(), status, "{case}: {}", self.body);
        if self.body.is_empty() {
            return; // HEAD
        }
        assert_eq!(self.content_type.as_deref(), Some("application/problem+json"), "{case}");
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], status, "{case}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{case}: {}", self.body);
    }
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const SID: &str = "SM0123456789abcdef0123456789abcdef";

/// A webhook form as Twilio signs it, with some fields set to other values or left out.
fn twilio_form(changes: &[(&str, Option<&str>)]) -> Vec<(String, String)> {
    let account = SimulatorConfig::demo().twilio.account_sid;
    let usual = [
        ("MessageSid", SID),
        ("AccountSid", &account),
        ("From", "+13035550142"),
        ("To", "+12125550100"),
        ("Body", "hello"),
        ("NumMedia", "0"),
    ];
    let kept = usual.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    let changed = changes.iter().filter_map(|(name, value)| value.map(|value| (*name, value)));
    kept.copied().chain(changed).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

async fn post_signed(house: &House, path: &str, form: &[(String, String)]) -> Asked {
    post_signed_with(house, path, form, &[]).await
}

async fn post_signed_with(house: &House, path: &str, form: &[(String, String)], more: &[(&str, &str)]) -> Asked {
    let token = SimulatorConfig::demo().twilio.auth_token;
    let signature = simulator::twilio::sign(&token, &format!("{}{path}", house.url), form);
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let headers = [&[FORM, ("x-twilio-signature", &signature)], more].concat();
    ask(house, Method::POST, path, &headers, body.into_bytes()).await
}

const MESSAGES: &str = "/webhooks/support/messages";
const STATUS: &str = "/webhooks/support/status";

#[tokio::test]
async fn bad_requests_get_a_problem_and_leave_nothing() {
    let house = idle_house(Provider::Twilio).await;
    for (method, path, status) in [
        (Method::GET, "/", 404),
        (Method::POST, "/webhooks/support", 404),
        (Method::POST, "/webhooks/other/messages", 404),
        (Method::POST, "/webhooks/UPPER/messages", 404),
        (Method::POST, "/webhooks/%FF%FE/messages", 404),
        (Method::POST, "/webhooks/..%2F..%2Fetc/messages", 404),
        (Method::PUT, MESSAGES, 405),
        (Method::DELETE, MESSAGES, 405),
        (Method::HEAD, MESSAGES, 405),
        (Method::PUT, STATUS, 405),
        (Method::GET, STATUS, 403),
        (Method::GET, MESSAGES, 403),
        (Method::POST, MESSAGES, 403),
        (Method::POST, STATUS, 403),
    ] {
        let asked = ask(&house, method.clone(), path, &[FORM], Vec::new()).await;
        asked.assert_problem(status, &format!("{method} {path}"));
    }
    for (case, headers, body) in [
        ("a wrong signature", vec![FORM, ("x-twilio-signature", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=")], b"Body=hi".to_vec()),
        ("a signature that is no base64", vec![FORM, ("x-twilio-signature", "%%%")], b"Body=hi".to_vec()),
        ("bytes that are no text", vec![FORM, ("x-twilio-signature", "AA==")], vec![0xFF; 100]),
        ("JSON", vec![("content-type", "application/json")], b"{}".to_vec()),
        ("no content type", vec![], b"Body=hi".to_vec()),
    ] {
        ask(&house, Method::POST, MESSAGES, &headers, body).await.assert_problem(403, case);
    }
    let too_large = vec![b'x'; 256 * 1024 + 1];
    ask(&house, Method::POST, MESSAGES, &[FORM], too_large.clone()).await.assert_problem(413, "a body over the limit");
    ask(&house, Method::POST, STATUS, &[FORM], too_large).await.assert_problem(413, "a receipt over the limit");
    assert_eq!(house.ports.broker.depths().await.unwrap(), Depths::default(), "nothing was queued");
    house.close(0).await;
}

#[tokio::test]
async fn good_requests_are_accepted_without_a_word() {
    let house = idle_house(Provider::Twilio).await;
    let asked = post_signed(&house, MESSAGES, &twilio_form(&[])).await;
    assert_eq!((asked.status.as_u16(), asked.body.as_str(), asked.content_type), (204, "", None));
    // Twilio signs the whole URL of a GET, and nothing else.
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(twilio_form(&[])).finish();
    let target = format!("{MESSAGES}?{query}");
    let token = SimulatorConfig::demo().twilio.auth_token;
    let signature = simulator::twilio::sign(&token, &format!("{}{target}", house.url), &[]);
    let asked = ask(&house, Method::GET, &target, &[("x-twilio-signature", &signature)], Vec::new()).await;
    assert_eq!(asked.status.as_u16(), 204);
    let mut receipt = twilio_form(&[("From", Some("+12125550100")), ("To", Some("+13035550142"))]);
    receipt.push(("MessageStatus".to_owned(), "delivered".to_owned()));
    assert_eq!(post_signed(&house, STATUS, &receipt).await.status.as_u16(), 204);
    receipt.last_mut().unwrap().1 = "some-new-status".to_owned();
    assert_eq!(post_signed(&house, STATUS, &receipt).await.status.as_u16(), 204, "unknown news is no error");
    let depths = house.ports.broker.depths().await.unwrap();
    assert_eq!((depths.inbound, depths.receipts), (2, 1), "{depths:?}");
}

#[tokio::test]
async fn b12_a_callers_traceparent_is_not_taken_over() {
    let house = idle_house(Provider::Twilio).await;
    let theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let asked = post_signed_with(&house, MESSAGES, &twilio_form(&[]), &[("traceparent", theirs)]).await;
    assert_eq!(asked.status.as_u16(), 204);
    let delivery = house.ports.broker.subscribe(Stage::Inbound, 1).next().await;
    let trace = Envelope::decode(&delivery.payload).unwrap().trace;
    assert!(trace.starts_with("00-") && trace.len() == theirs.len(), "{trace} is no traceparent");
    assert!(!trace.contains("4bf92f3577b34da6a3ce929d0e0e4736"), "the caller names our trace: {trace}");
}

#[tokio::test]
async fn intelepeer_is_answered_as_intelepeer() {
    let house = idle_house(Provider::Intelepeer).await;
    let json = ("content-type", "application/json");
    for (case, status, body) in [
        ("not JSON", 403, "hello".to_owned()),
        ("not an object", 403, "[]".to_owned()),
        ("no signature", 403, r#"{"refid":"a","from":"+13035550142","to":"+12125550199","message":"hi"}"#.to_owned()),
        (
            "a wrong signature",
            403,
            r#"{"signature":"guess","refid":"a","from":"+13035550142","to":"+12125550199","message":"hi"}"#.to_owned(),
        ),
        ("deeply nested", 403, "[".repeat(100_000)),
    ] {
        ask(&house, Method::POST, MESSAGES, &[json], body.into_bytes()).await.assert_problem(status, case);
    }
    let good = r#"{"signature":"simulated-intelepeer-secret","refid":"a","from":"+13035550142","to":"+12125550199","message":"hi"}"#;
    let asked = ask(&house, Method::POST, MESSAGES, &[json], good.into()).await;
    assert_eq!((asked.status.as_u16(), asked.body.as_str()), (200, ""));
    assert_eq!(house.ports.broker.depths().await.unwrap(), Depths { inbound: 1, ..Depths::default() });
}

/// Sends raw bytes and returns the status line of the answer.
async fn raw(house: &House, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(house.url.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A refusal may reset the connection after its answer, because the rest of the request is not read.
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn broken_http_is_refused_and_the_next_request_is_served() {
    let house = idle_house(Provider::Twilio).await;
    for request in [&b"\x00\x01\x02\r\n\r\n"[..], b"GET\r\n\r\n", b"POST /webhooks/support/messages HTTP/9.9\r\n\r\n"] {
        assert!(raw(&house, request).await.contains(" 400 "), "{request:?}");
    }
    // What a thousand clients could make us hold at once must stay small.
    for bytes in [160 << 10, 1 << 20] {
        let huge_header = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(bytes));
        assert!(raw(&house, huge_header.as_bytes()).await.contains(" 431 "), "{bytes} bytes");
    }
    let promised_too_much =
        b"POST /webhooks/support/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999\r\n\r\n";
    assert!(raw(&house, promised_too_much).await.contains(" 413 "));
    assert_eq!(post_signed(&house, MESSAGES, &twilio_form(&[])).await.status.as_u16(), 204);
}

#[tokio::test]
async fn health_and_metrics_are_told_on_the_private_listener_only() {
    let house = idle_house(Provider::Twilio).await;
    post_signed(&house, MESSAGES, &twilio_form(&[])).await;
    let client = common::http::client(Duration::from_secs(30)).unwrap();
    let get = async |url: String| {
        let response = client.get(url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(get(format!("{}/health/live", house.operations_url)).await.0, 200);
    let (status, ready) = get(format!("{}/health/ready", house.operations_url)).await;
    assert_eq!(status, 200, "{ready}");
    let (_, metrics) = get(format!("{}/metrics", house.operations_url)).await;
    for line in ["switchboard_webhooks_total{", "switchboard_queue_messages{queue=\"inbound\"} 1"] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    for path in ["/health/live", "/health/ready", "/metrics"] {
        assert_eq!(get(format!("{}{path}", house.url)).await.0, 404, "{path} on the public listener");
    }
}
