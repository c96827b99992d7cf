//! watsonx Assistant v2 as the simulator serves it; the real SDK judges more of it in `sdk.rs`.

use serde_json::{Value, json};
use simulator::{Answer, Simulator, SimulatorConfig};

use super::{answer, demo, http};

fn base(simulator: &Simulator) -> String {
    let known = SimulatorConfig::demo().watsonx;
    let assistant = format!("{}/v2/assistants/{}", simulator.url(), known.assistant_id);
    format!("{assistant}/environments/{}", known.environment_id)
}

fn post(url: String, body: &Value) -> reqwest::RequestBuilder {
    let version = if url.contains('?') { "" } else { "?version=2024-08-25" };
    http().post(format!("{url}{version}")).basic_auth("apikey", Some("simulated-watsonx-apikey")).json(body)
}

async fn open(simulator: &Simulator) -> String {
    let (status, created) = answer(post(format!("{}/sessions", base(simulator)), &json!({}))).await;
    assert_eq!(status, 201);
    format!("{}/sessions/{}", base(simulator), created["session_id"].as_str().unwrap())
}

#[tokio::test]
async fn a_session_keeps_its_context_and_shows_it_only_when_asked() {
    let simulator = demo().await;
    let session = open(&simulator).await;
    let first =
        json!({ "input": { "text": "hello" }, "context": { "skills": { "main": { "user_defined": { "a": 1 } } } } });
    let (status, reply) = answer(post(format!("{session}/message"), &first)).await;
    assert_eq!(status, 200);
    assert_eq!(reply["output"]["generic"][1]["response_type"], "option");
    assert_eq!(reply.get("context"), None);
    let second = json!({ "input": { "text": "count", "options": { "return_context": true } }, "user_id": "me" });
    let (_, reply) = answer(post(format!("{session}/message"), &second)).await;
    assert_eq!(reply["output"]["generic"][0]["text"], "This is turn 2 of our conversation.");
    assert_eq!(reply["context"]["skills"]["main"]["user_defined"]["a"], 1);
    assert_eq!(reply["user_id"], "me");
    assert_eq!(simulator.assistant().turns()[0].request, first);
}

#[tokio::test]
async fn texts_that_the_real_service_refuses_are_refused() {
    let simulator = demo().await;
    let session = open(&simulator).await;
    for text in ["a\tb", "a\nb", "a\rb", "x".repeat(2049).as_str()] {
        let body = json!({ "input": { "text": text } });
        let (status, refusal) = answer(post(format!("{session}/message"), &body)).await;
        assert_eq!((status.as_u16(), &refusal["error"]), (400, &json!("Invalid Request Body")));
        assert_eq!(refusal["errors"][0]["path"], ".input.text");
    }
    let bearable = json!({ "input": { "text": "é".repeat(2048) } });
    assert_eq!(answer(post(format!("{session}/message"), &bearable)).await.0, 200);
    assert_eq!(simulator.assistant().turns().len(), 1);
}

#[tokio::test]
async fn unknown_expired_and_deleted_sessions_are_invalid() {
    let simulator = demo().await;
    let invalid = json!({ "error": "Invalid Session", "code": 404 });
    let body = json!({ "input": { "text": "hello" } });
    let unknown = format!("{}/sessions/none/message", base(&simulator));
    assert_eq!(answer(post(unknown, &body)).await, (http::StatusCode::NOT_FOUND, invalid.clone()));
    let session = open(&simulator).await;
    simulator.assistant().expire_sessions();
    assert_eq!(answer(post(format!("{session}/message"), &body)).await.1, invalid);
    let session = open(&simulator).await;
    let delete = || {
        let url = format!("{session}?version=2024-08-25");
        http().delete(url).basic_auth("apikey", Some("simulated-watsonx-apikey"))
    };
    assert_eq!(answer(delete()).await.0, 200);
    assert_eq!(answer(delete()).await, (http::StatusCode::NOT_FOUND, invalid));
}

#[tokio::test]
async fn version_credentials_and_ids_are_insisted_on() {
    let simulator = demo().await;
    let sessions = format!("{}/sessions", base(&simulator));
    assert_eq!(answer(post(format!("{sessions}?"), &json!({}))).await.0, 400);
    assert_eq!(answer(post(format!("{sessions}?version=soon"), &json!({}))).await.0, 400);
    assert_eq!(answer(http().post(format!("{sessions}?version=2024-08-25"))).await.0, 401);
    let wrong = http().post(format!("{sessions}?version=2024-08-25")).basic_auth("apikey", Some("no"));
    assert_eq!(answer(wrong).await.0, 401);
    let elsewhere = format!("{}/v2/assistants/other/sessions", simulator.url());
    assert_eq!(answer(post(elsewhere, &json!({}))).await.0, 404);
    let older = format!(
        "{}/instances/i1/v2/assistants/{}/sessions",
        simulator.url(),
        SimulatorConfig::demo().watsonx.environment_id
    );
    let created = post(older, &json!({})).send().await.unwrap();
    assert_eq!(created.status(), 201);
    assert!(created.headers().contains_key("x-global-transaction-id"));
    simulator.assistant().allow_anonymous(true);
    assert_eq!(answer(http().post(format!("{sessions}?version=2024-08-25"))).await.0, 201);
}

#[tokio::test]
async fn a_test_can_answer_itself() {
    let simulator = demo().await;
    simulator.assistant().answer_with(|turn| {
        Answer::text(turn.text.to_uppercase()).with_context(json!({ "integrations": { "n": turn.earlier_turns } }))
    });
    let body = json!({ "input": { "text": "hello" } });
    let (_, reply) = answer(post(format!("{}/message", base(&simulator)), &body)).await;
    assert_eq!(reply["output"]["generic"][0]["text"], "HELLO");
    assert_eq!(reply["context"]["integrations"]["n"], 0);
    assert_eq!(simulator.assistant().turns()[0].session_id, None);
}
