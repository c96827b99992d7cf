//! IntelePeer's SMS API as the simulator serves it.

use std::time::Duration;

use serde_json::{Value, json};
use simulator::intelepeer::TokenForm;
use simulator::{Simulator, SimulatorConfig};

use super::webhook::Webhook;
use super::{CUSTOMER, DEADLINE, OURS_INTELEPEER, answer, demo, http};

const TOKEN: &str = "simulated-intelepeer-token";

fn url(simulator: &Simulator, rest: &str) -> String {
    format!("{}/_rest/v4/{rest}", simulator.url())
}

fn send(simulator: &Simulator, authorization: &str, body: &Value) -> reqwest::RequestBuilder {
    http().post(url(simulator, "app/sms/send")).header("authorization", authorization).json(body)
}

fn text() -> Value {
    json!({ "from": OURS_INTELEPEER, "to": CUSTOMER, "text": "hello", "guid": "part-1" })
}

#[tokio::test]
async fn a_text_is_queued_and_its_record_follows_it() {
    let simulator = demo().await;
    let (status, created) = answer(send(&simulator, &format!("Bearer {TOKEN}"), &text())).await;
    assert_eq!((status.as_u16(), &created["state"]), (202, &json!("CREATED")));
    let refid = created["refid"].as_str().unwrap().to_owned();
    assert_eq!(refid.len(), 32);
    let delivered = simulator.wait_for(|s| s.messages().first().filter(|m| m.state.word() == "delivered").cloned());
    let message = tokio::time::timeout(DEADLINE, delivered).await.unwrap().unwrap();
    assert_eq!((message.guid.as_deref(), message.body.as_str()), (Some("part-1"), "hello"));
    let mdr = url(&simulator, "app/sms/mdr");
    let by_body = http().post(&mdr).bearer_auth(TOKEN).json(&json!({ "refid": refid }));
    assert_eq!(answer(by_body).await.1["RCC_en"], "DLR:Delivered");
    let by_query = http().get(format!("{mdr}?refid={refid}")).bearer_auth(TOKEN);
    assert_eq!(answer(by_query).await.1["RCC"], 210_000);
    assert_eq!(answer(http().get(format!("{mdr}?refid=none")).bearer_auth(TOKEN)).await.0, 404);
}

#[tokio::test]
async fn bad_texts_are_refused_as_documented() {
    let mut config = SimulatorConfig::demo();
    config.intelepeer.international = false;
    let simulator = Simulator::start(config).await.unwrap();
    let cases = [
        (json!({ "from": OURS_INTELEPEER, "text": "x" }), 400),
        (json!({ "from": OURS_INTELEPEER, "to": CUSTOMER }), 400),
        (json!({ "from": OURS_INTELEPEER, "to": "12345", "text": "x" }), 400),
        (json!({ "from": "+12125550000", "to": CUSTOMER, "text": "x" }), 404),
        (json!({ "from": OURS_INTELEPEER, "to": "+442071838750", "text": "x" }), 403),
        (json!({ "from": OURS_INTELEPEER, "to": CUSTOMER, "media": [{ "link": "ftp://x" }] }), 400),
    ];
    for (body, expected) in cases {
        let (status, refusal) = answer(send(&simulator, TOKEN, &body)).await;
        assert_eq!(status.as_u16(), expected, "{body}");
        assert_eq!(refusal["code"], expected);
        assert!(refusal["error"].is_string());
    }
    assert!(simulator.messages().is_empty());
}

#[tokio::test]
async fn a_token_from_the_login_is_good_until_it_expires() {
    let simulator = demo().await;
    let login = |password: &str| {
        http().post(url(&simulator, "authenticate")).json(&json!({ "username": "demo", "password": password }))
    };
    let (status, refusal) = answer(login("wrong")).await;
    assert_eq!((status.as_u16(), refusal), (401, json!({ "code": 401, "error": "Unauthorized" })));
    let token = answer(login("simulated-intelepeer-password")).await.1["token"].as_str().unwrap().to_owned();
    assert_eq!(answer(send(&simulator, &token, &text())).await.0, 202);
    simulator.expire_intelepeer_tokens();
    assert_eq!(answer(send(&simulator, &token, &text())).await.0, 401);
    let bodies: Vec<String> = simulator.requests().into_iter().map(|r| r.body).collect();
    assert!(!bodies.iter().any(|body| body.contains("simulated-intelepeer-password")));
}

#[tokio::test]
async fn the_form_of_the_token_can_be_insisted_on() {
    let mut config = SimulatorConfig::demo();
    config.intelepeer.accepts = TokenForm::Bare;
    let simulator = Simulator::start(config).await.unwrap();
    assert_eq!(answer(send(&simulator, &format!("Bearer {TOKEN}"), &text())).await.0, 401);
    assert_eq!(answer(send(&simulator, TOKEN, &text())).await.0, 202);
}

#[tokio::test]
async fn an_inbound_text_is_repeated_until_exactly_200() {
    let mut config = SimulatorConfig::demo();
    config.intelepeer.redelivery_pause = Duration::ZERO;
    let simulator = Simulator::start(config).await.unwrap();
    let webhook = Webhook::start(&[(500, "", ""), (204, "", ""), (200, "", "")]).await;
    let set = http()
        .post(url(&simulator, "my/did/sms/webhook"))
        .bearer_auth(TOKEN)
        .json(&json!({ "endpoints": [OURS_INTELEPEER], "webhook": webhook.url("/in") }));
    assert_eq!(answer(set).await.0, 201);
    let taken = simulator.phone().text(CUSTOMER, OURS_INTELEPEER, "hello").await.unwrap();
    assert_eq!((taken.status, taken.attempts), (200, 3));
    let body: Value = serde_json::from_str(&webhook.got()[0].body).unwrap();
    assert_eq!((&body["from"], &body["to"]), (&json!(CUSTOMER), &json!(OURS_INTELEPEER)));
    assert_eq!((&body["message"], &body["refid"]), (&json!("hello"), &json!(taken.sid)));
    assert_eq!(body["signature"], "simulated-intelepeer-secret");
    let never = simulator.phone().text(CUSTOMER, OURS_INTELEPEER, "again").await.unwrap();
    assert_eq!((never.status, never.attempts), (204, 5));
}

#[tokio::test]
async fn several_webhooks_at_once_get_a_result_each() {
    let simulator = demo().await;
    let endpoints = json!([OURS_INTELEPEER, "+12125550000", "nonsense"]);
    let set = http()
        .post(url(&simulator, "my/did/sms/webhook"))
        .bearer_auth(TOKEN)
        .json(&json!({ "endpoints": endpoints, "webhook": "https://sms.example.com/in" }));
    let (status, results) = answer(set).await;
    assert_eq!(status, 207);
    let codes: Vec<u64> = results["results"].as_array().unwrap().iter().map(|r| r["code"].as_u64().unwrap()).collect();
    assert_eq!(codes, [201, 404, 400]);
}
