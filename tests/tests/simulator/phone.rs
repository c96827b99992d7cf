//! Texting as a customer: signed webhooks, replies, duplicates, the page and its control API.

use serde_json::{Value, json};
use simulator::{Event, PhoneError, Simulator, SimulatorConfig, Text, WebhookMethod};

use super::twilio::form_fields;
use super::webhook::Webhook;
use super::{CUSTOMER, DEADLINE, OURS, answer, demo, http, send};

#[tokio::test]
async fn a_text_reaches_the_webhook_signed_and_with_the_usual_parameters() {
    let simulator = demo().await;
    let webhook = Webhook::start(&[]).await;
    simulator.set_webhook(OURS, &webhook.url("/in?a=b%20c#rc=3&rt=4000"));
    let text = Text::new(CUSTOMER, OURS, "see, 1+1=2 & äöü 😀")
        .with_media("https://example.com/cat.jpg", "image/jpeg")
        .with_id("MM00000000000000000000000000000042");
    let taken = simulator.phone().send(text).await.unwrap();
    assert_eq!((taken.status, taken.sid.as_str()), (204, "MM00000000000000000000000000000042"));
    let got = &webhook.got()[0];
    assert_eq!((got.method.as_str(), got.uri.as_str()), ("POST", "/in?a=b%20c"));
    let form = form_fields(&got.body);
    let field = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).unwrap();
    assert_eq!(field("Body"), "see, 1+1=2 & äöü 😀");
    assert_eq!((field("From"), field("To"), field("NumMedia")), (CUSTOMER, OURS, "1"));
    assert_eq!((field("MediaUrl0"), field("MediaContentType0")), ("https://example.com/cat.jpg", "image/jpeg"));
    assert_eq!((field("MessageSid"), field("SmsStatus")), (taken.sid.as_str(), "received"));
    let signed = webhook.url("/in?a=b%20c");
    let signature = simulator::twilio::sign(&"simulated-twilio-token".into(), &signed, &form);
    assert_eq!(got.header("x-twilio-signature"), signature);
}

#[tokio::test]
async fn a_number_may_have_its_texts_sent_by_get() {
    let simulator = demo().await;
    let webhook = Webhook::start(&[]).await;
    simulator.set_webhook(OURS, &webhook.url("/in"));
    simulator.set_webhook_method(OURS, WebhookMethod::Get);
    simulator.phone().text(CUSTOMER, OURS, "hello").await.unwrap();
    let got = &webhook.got()[0];
    assert_eq!((got.method.as_str(), got.body.as_str()), ("GET", ""));
    assert!(got.uri.contains("Body=hello"));
    let signature = simulator::twilio::sign(&"simulated-twilio-token".into(), &webhook.url(&got.uri), &[]);
    assert_eq!(got.header("x-twilio-signature"), signature);
}

#[tokio::test]
async fn a_duplicate_is_posted_again_but_shown_once() {
    let simulator = demo().await;
    let webhook = Webhook::start(&[]).await;
    simulator.set_webhook(OURS, &webhook.url("/in"));
    let text = Text::new(CUSTOMER, OURS, "hello").with_id("SM00000000000000000000000000000042");
    simulator.phone().send(text.clone()).await.unwrap();
    simulator.phone().send(text).await.unwrap();
    assert_eq!(webhook.got().len(), 2);
    assert_eq!(simulator.phone().conversation(CUSTOMER, OURS).len(), 1);
}

#[tokio::test]
async fn a_text_plain_answer_is_texted_to_the_customer_as_at_twilio() {
    let simulator = demo().await;
    let webhook = Webhook::start(&[(200, "text/plain; charset=utf-8", "ok"), (200, "text/xml", "<Response/>")]).await;
    simulator.set_webhook(OURS, &webhook.url("/in"));
    let phone = simulator.phone();
    phone.text(CUSTOMER, OURS, "hello").await.unwrap();
    phone.text(CUSTOMER, OURS, "hello").await.unwrap();
    assert_eq!(phone.replies(CUSTOMER).into_iter().map(|m| m.body).collect::<Vec<_>>(), ["ok"]);
}

#[tokio::test]
async fn after_stop_texts_are_refused_until_start() {
    let simulator = demo().await;
    let webhook = Webhook::start(&[]).await;
    simulator.set_webhook(OURS, &webhook.url("/in"));
    let phone = simulator.phone();
    let form = [("To", CUSTOMER), ("From", OURS), ("Body", "hello")];
    phone.text(CUSTOMER, OURS, "Stop").await.unwrap();
    assert_eq!(answer(send(&simulator, &form)).await.1["code"], 21610);
    phone.text(CUSTOMER, OURS, "start").await.unwrap();
    assert_eq!(answer(send(&simulator, &form)).await.0, 201);
    assert_eq!(webhook.got().len(), 2);
}

#[tokio::test]
async fn replies_are_awaited_and_told_to_subscribers() {
    let simulator = demo().await;
    let phone = simulator.phone();
    let mut events = phone.subscribe();
    let waiting = tokio::spawn({
        let phone = phone.clone();
        async move { phone.wait_for_reply(CUSTOMER, 0, DEADLINE).await }
    });
    assert_eq!(answer(send(&simulator, &[("To", CUSTOMER), ("From", OURS), ("Body", "hello")])).await.0, 201);
    let reply = waiting.await.unwrap().unwrap();
    assert_eq!(reply.body, "hello");
    let Ok(Event::Message { message }) = events.recv().await else { panic!("no message was told") };
    assert_eq!(message.sid, reply.sid);
    let none = phone.wait_for_reply(CUSTOMER, 1, std::time::Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(none.seen, 1);
}

#[tokio::test]
async fn a_text_to_nobody_says_why() {
    let simulator = demo().await;
    let phone = simulator.phone();
    assert_eq!(phone.text(CUSTOMER, "+12125550000", "x").await.unwrap_err(), PhoneError::UnknownNumber);
    assert_eq!(phone.text(CUSTOMER, OURS, "x").await.unwrap_err(), PhoneError::NoWebhook);
    simulator.set_webhook(OURS, "http://127.0.0.1:9/");
    assert!(matches!(phone.text(CUSTOMER, OURS, "x").await.unwrap_err(), PhoneError::Unreachable(_)));
}

#[tokio::test]
async fn only_the_newest_are_kept() {
    let mut config = SimulatorConfig::demo();
    config.keep = 3;
    let simulator = Simulator::start(config).await.unwrap();
    for body in ["1", "2", "3", "4", "5"] {
        assert_eq!(answer(send(&simulator, &[("To", CUSTOMER), ("From", OURS), ("Body", body)])).await.0, 201);
    }
    assert_eq!(simulator.messages().into_iter().map(|m| m.body).collect::<Vec<_>>(), ["3", "4", "5"]);
    assert_eq!(simulator.requests().len(), 3);
}

#[tokio::test]
async fn the_page_runs_only_its_own_script() {
    let simulator = demo().await;
    let page = http().get(simulator.url()).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    let html = page.text().await.unwrap();
    let nonce = policy.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert!(policy.starts_with("default-src 'none'"));
    assert!(html.contains(&format!("<script nonce=\"{nonce}\">")));
    assert!(!html.contains("{{nonce}}") && !html.contains("innerHTML"));
    let again = http().get(simulator.url()).send().await.unwrap().text().await.unwrap();
    assert!(!again.contains(nonce));
}

#[tokio::test]
async fn the_control_api_texts_and_shows_the_conversation() {
    let simulator = demo().await;
    let webhook = Webhook::start(&[]).await;
    let control = |path: &str| format!("{}/_simulator/{path}", simulator.url());
    let set = http().post(control("webhooks")).json(&json!({ "number": OURS, "url": webhook.url("/in") }));
    assert_eq!(set.send().await.unwrap().status(), 204);
    let unknown = http().post(control("webhooks")).json(&json!({ "number": "+1", "url": "http://x/" }));
    assert_eq!(unknown.send().await.unwrap().status(), 404);
    let text = json!({ "from": CUSTOMER, "to": OURS, "body": "<b>hi</b>" });
    let (status, taken) = answer(http().post(control("texts")).json(&text)).await;
    assert_eq!((status.as_u16(), taken["status"].as_u64()), (200, Some(204)));
    let state: Value = answer(http().get(control("state"))).await.1;
    assert_eq!(state["messages"][0]["body"], "<b>hi</b>");
    assert_eq!(state["numbers"][0], json!({ "number": OURS, "service": "twilio", "has_webhook": true }));
    let nobody = json!({ "from": CUSTOMER, "to": "+12125550000", "body": "x" });
    assert_eq!(answer(http().post(control("texts")).json(&nobody)).await.0, 502);
}
