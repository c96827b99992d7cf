//! The front door on real HTTP: its answers to bad input of every kind. No such answer contains a word that a provider
//! could text to a customer, and no request is half done.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use broker::{Depths, Stage};
use http::{Method, StatusCode};
use message::Envelope;
use simulator::SimulatorConfig;
use tests::house::{Backend, Blueprint, House, Provider};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A house without workers, so that accepted texts stay in the queue.
async fn idle_house(provider: Provider) -> House {
    House::open(Blueprint { workers: 0, provider, ..Blueprint::new(Backend::Embedded) }).await
}

struct Asked {
    status: StatusCode,
    content_type: Option<String>,
    body: String,
}

async fn ask(house: &House, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Asked {
    let client = providers::http_client::client(Duration::from_secs(30)).unwrap();
    let mut request = client.request(method, format!("{}{path}", house.url)).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let content_type = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    Asked { status: response.status(), content_type, body: response.text().await.unwrap() }
}

impl Asked {
    /// Asserts a refusal with this status: problem details for machines and people, and no text that a provider would
    /// send on.
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
    post_signed_as(house, &format!("{}{path}", house.url), path, form, &[]).await
}

/// Posts to `path`, with the headers `more`, a form that is signed for `signed_url`.
async fn post_signed_as(
    house: &House,
    signed_url: &str,
    path: &str,
    form: &[(String, String)],
    more: &[(&str, &str)],
) -> Asked {
    let token = SimulatorConfig::demo().twilio.auth_token;
    let signature = simulator::twilio::sign(&token, signed_url, form);
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
    let too_large = vec![b'x'; 64 * 1024 + 1];
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
    // For a GET, Twilio signs the whole URL and nothing else.
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
    let asked = post_signed_as(
        &house,
        &format!("{}{MESSAGES}", house.url),
        MESSAGES,
        &twilio_form(&[]),
        &[("traceparent", theirs)],
    )
    .await;
    assert_eq!(asked.status.as_u16(), 204);
    let delivery = house.ports.broker.subscribe(Stage::Inbound, 1).next().await;
    let trace = Envelope::decode(&delivery.payload).unwrap().trace;
    assert!(trace.starts_with("00-") && trace.len() == theirs.len(), "{trace} is no traceparent");
    assert!(!trace.contains("4bf92f3577b34da6a3ce929d0e0e4736"), "the caller names our trace: {trace}");
}

#[tokio::test]
async fn t10_a_slash_at_the_end_of_the_path_changes_nothing() {
    let house = idle_house(Provider::Twilio).await;
    let mut receipt = twilio_form(&[("From", Some("+12125550100")), ("To", Some("+13035550142"))]);
    receipt.push(("MessageStatus".to_owned(), "delivered".to_owned()));
    for (path, form) in [
        ("/webhooks/support/messages/", twilio_form(&[])),
        ("/webhooks/support/messages/?a=b", twilio_form(&[])),
        ("/webhooks/support/status/", receipt),
    ] {
        let asked = post_signed(&house, path, &form).await;
        assert_eq!((asked.status.as_u16(), asked.body.as_str()), (204, ""), "{path}");
    }
    // A signature over the URL without the slash does not count.
    let without = format!("{}{MESSAGES}", house.url);
    post_signed_as(&house, &without, "/webhooks/support/messages/", &twilio_form(&[]), &[])
        .await
        .assert_problem(403, "signed");
    ask(&house, Method::PUT, "/webhooks/support/messages/", &[FORM], Vec::new()).await.assert_problem(405, "PUT");
    let depths = house.ports.broker.depths().await.unwrap();
    assert_eq!((depths.inbound, depths.receipts), (2, 1), "{depths:?}");
}

#[tokio::test]
async fn t10_unknown_paths_below_webhooks_are_counted_and_no_word_of_theirs_is_a_label() {
    let house = idle_house(Provider::Twilio).await;
    for path in [
        "/webhooks",
        "/webhooks/",
        "/webhooks/support",
        "/webhooks/support/message",
        "/webhooks/support/messages//",
        "/webhooks/support/messages/x?y=z",
        "/webhooks/stranger-8675309",
        "/webhooks/stranger-8675309/messages",
        "/webhooks//messages",
        "/webhooks/%FF/8675309",
    ] {
        ask(&house, Method::POST, path, &[FORM], Vec::new()).await.assert_problem(404, path);
    }
    let client = providers::http_client::client(Duration::from_secs(30)).unwrap();
    let metrics = client.get(format!("{}/metrics", house.operations_url)).send().await.unwrap().text().await.unwrap();
    let labels = |integration, kind, outcome| {
        format!(r#"switchboard_webhooks_total{{integration="{integration}",kind="{kind}",outcome="{outcome}"}}"#)
    };
    for line in [
        labels("support", "unknown", "not_found"),
        labels("unknown", "unknown", "unknown_integration"),
        labels("unknown", "message", "unknown_integration"),
    ] {
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("8675309"), "{metrics}");
}

#[tokio::test]
async fn t16_the_webhook_port_says_that_it_is_there_and_nothing_else() {
    let house = idle_house(Provider::Twilio).await;
    for method in [Method::GET, Method::HEAD] {
        let asked = ask(&house, method, "/healthz", &[], Vec::new()).await;
        assert_eq!((asked.status.as_u16(), asked.body.as_str(), asked.content_type), (204, "", None));
    }
    ask(&house, Method::POST, "/healthz", &[], Vec::new()).await.assert_problem(405, "POST");
}

#[tokio::test]
async fn t9_the_provider_may_know_us_by_a_path_and_by_several_names() {
    let more_public_urls =
        ["https://sms.example.com/proxy/sms", "https://OLD.example.com", "http://127.0.0.1:8080/webhooks"];
    let house = House::open(Blueprint {
        workers: 0,
        more_public_urls: more_public_urls.map(str::to_owned).to_vec(),
        ..Blueprint::new(Backend::Embedded)
    })
    .await;
    let own = house.url.clone();
    for (signed, path) in [
        (own.as_str(), MESSAGES),
        ("https://sms.example.com/proxy/sms", MESSAGES),
        ("https://sms.example.com/proxy/sms", "/webhooks/support/messages/"),
        ("https://sms.example.com:443/proxy/sms", MESSAGES),
        ("https://OLD.example.com", MESSAGES),
        ("https://OLD.example.com:443", MESSAGES),
        ("https://old.example.com", MESSAGES),
        ("http://127.0.0.1:8080/webhooks", MESSAGES),
    ] {
        let asked = post_signed_as(&house, &format!("{signed}{path}"), path, &twilio_form(&[]), &[]).await;
        assert_eq!(asked.status.as_u16(), 204, "{signed}{path}");
    }
    // A proxy may also leave the path unchanged.
    for (origin, path) in [
        ("https://sms.example.com", format!("/proxy/sms{MESSAGES}")),
        ("https://sms.example.com:443", format!("/proxy/sms{MESSAGES}/")),
        ("http://127.0.0.1:8080", format!("/webhooks{MESSAGES}")),
    ] {
        let asked = post_signed_as(&house, &format!("{origin}{path}"), &path, &twilio_form(&[]), &[]).await;
        assert_eq!(asked.status.as_u16(), 204, "{origin}{path}");
    }
    for signed in [
        "https://sms.example.com",
        "https://sms.example.com/proxy",
        "https://sms.example.com/Proxy/sms",
        "http://sms.example.com/proxy/sms",
        "https://sms.example.com:8443/proxy/sms",
        "https://sms.example.org/proxy/sms",
        "https://OLD.example.com/proxy/sms",
    ] {
        let asked = post_signed_as(&house, &format!("{signed}{MESSAGES}"), MESSAGES, &twilio_form(&[]), &[]).await;
        asked.assert_problem(403, signed);
    }
}

#[tokio::test]
async fn b7_what_can_be_refused_without_the_body_is_refused_before_it_comes() {
    let house = idle_house(Provider::Twilio).await;
    let began = tokio::time::Instant::now();
    for (line, headers, status) in [
        ("POST /webhooks/other/messages", "x-twilio-signature: AAAA\r\ncontent-length: 10", "404"),
        ("POST /webhooks/support/other", "x-twilio-signature: AAAA\r\ncontent-length: 10", "404"),
        ("POST /elsewhere", "content-length: 10", "404"),
        ("PUT /webhooks/support/messages", "x-twilio-signature: AAAA\r\ncontent-length: 10", "405"),
        ("PUT /webhooks/support/status", "x-twilio-signature: AAAA\r\ntransfer-encoding: chunked", "405"),
        ("POST /webhooks/support/messages", "content-length: 10", "403"),
        ("POST /webhooks/support/status", "transfer-encoding: chunked", "403"),
        ("POST /webhooks/support/messages", "x-twilio-signature: %%%\r\ncontent-length: 10", "403"),
        ("POST /webhooks/support/messages", "x-twilio-signature: AAAA\r\ncontent-length: 65537", "413"),
        ("POST /webhooks/support/messages", "content-length: 10\r\nexpect: 100-continue", "403"),
    ] {
        let answer = raw(&house, format!("{line} HTTP/1.1\r\nhost: a\r\n{headers}\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}, {headers}: {answer}");
    }
    // Each of these requests once waited the ten seconds that a body may take.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn b7_a_body_without_a_length_is_cut_at_the_limit() {
    let house = idle_house(Provider::Twilio).await;
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000)).repeat(17);
    let head = format!("POST {MESSAGES} HTTP/1.1\r\nhost: a\r\nx-twilio-signature: AAAA\r\n");
    let answer = raw(&house, format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
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
        ("deeply nested", 403, "[".repeat(60_000)),
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
    // The connection may be reset after the answer of a refusal, because the rest of the request is not read.
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn broken_http_is_refused_and_the_next_request_is_served() {
    let house = idle_house(Provider::Twilio).await;
    for request in [&b"\x00\x01\x02\r\n\r\n"[..], b"GET\r\n\r\n", b"POST /webhooks/support/messages HTTP/9.9\r\n\r\n"] {
        assert!(raw(&house, request).await.contains(" 400 "), "{request:?}");
    }
    // The memory that a thousand clients could occupy at once must stay small.
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
    let client = providers::http_client::client(Duration::from_secs(30)).unwrap();
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
