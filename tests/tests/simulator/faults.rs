//! Faults on demand: the caller sees the ordered fault, and the record shows what was really accepted.

use std::time::{Duration, Instant};

use serde_json::json;
use simulator::{Fault, Route};

use super::{CUSTOMER, DEADLINE, OURS, answer, demo, http, send, signed_in, twilio_url};

const TEXT: [(&str, &str); 3] = [("To", CUSTOMER), ("From", OURS), ("Body", "hello")];

#[tokio::test]
async fn a_status_fault_refuses_the_next_requests_and_no_more() {
    let simulator = demo().await;
    simulator.fail(Route::TwilioSend, Fault::retry_after(429, 7).times(2));
    for _ in 0..2 {
        let refused = send(&simulator, &TEXT).send().await.unwrap();
        assert_eq!(refused.status(), 429);
        assert_eq!(refused.headers()["retry-after"], "7");
        assert_eq!(refused.json::<serde_json::Value>().await.unwrap()["code"], 20429);
    }
    assert!(simulator.messages().is_empty());
    assert_eq!(answer(send(&simulator, &TEXT)).await.0, 201);
    let record: Vec<_> = simulator.requests().iter().map(|r| (r.status, r.faulted)).collect();
    assert_eq!(record, [(Some(429), true), (Some(429), true), (Some(201), false)]);
}

#[tokio::test]
async fn a_drop_before_accepts_nothing_and_a_drop_after_accepts() {
    let simulator = demo().await;
    simulator.fail(Route::TwilioSend, Fault::DropBefore);
    simulator.fail(Route::TwilioSend, Fault::DropAfter);
    let error = send(&simulator, &TEXT).send().await.unwrap_err();
    assert!(!error.is_timeout() && !error.is_connect(), "{error:?}");
    assert!(simulator.messages().is_empty());
    assert!(send(&simulator, &TEXT).send().await.is_err());
    assert_eq!(simulator.messages().len(), 1);
    assert!(simulator.requests().iter().all(|r| r.status.is_none() && r.faulted));
    assert_eq!(simulator.requests()[1].form_field("Body").as_deref(), Some("hello"));
}

#[tokio::test]
async fn a_delayed_answer_is_accepted_at_once() {
    let simulator = demo().await;
    simulator.fail(Route::TwilioSend, Fault::delay(Duration::from_secs(3600)));
    let waiting = tokio::spawn(send(&simulator, &TEXT).send());
    let accepted = simulator.wait_for(|s| s.messages().pop());
    assert_eq!(tokio::time::timeout(DEADLINE, accepted).await.unwrap().unwrap().body, "hello");
    assert!(!waiting.is_finished());
    simulator.stop().await;
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test]
async fn a_dripping_answer_is_whole_but_slow() {
    let simulator = demo().await;
    let fetch = || signed_in(http().get(twilio_url(&simulator, "IncomingPhoneNumbers.json?PhoneNumber=none")));
    let (_, whole) = answer(fetch()).await;
    simulator.fail(Route::TwilioNumbers, Fault::DripMs(2));
    let started = Instant::now();
    assert_eq!(answer(fetch()).await.1, whole);
    assert!(started.elapsed() >= Duration::from_millis(2 * 100), "it came at once");
}

#[tokio::test]
async fn wrong_json_keeps_the_status() {
    let simulator = demo().await;
    simulator.fail(Route::TwilioSend, Fault::wrong_json());
    let answer = send(&simulator, &TEXT).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    assert!(serde_json::from_str::<serde_json::Value>(&answer.text().await.unwrap()).is_err());
    assert_eq!(simulator.messages().len(), 1);
}

#[tokio::test]
async fn faults_are_set_and_cleared_through_the_control_api() {
    let simulator = demo().await;
    let faults = format!("{}/_simulator/faults", simulator.url());
    let plan = json!({ "route": "token", "fault": { "status": { "status": 503 } } });
    assert_eq!(http().post(&faults).json(&plan).send().await.unwrap().status(), 204);
    let token = format!("{}/identity/token", simulator.url());
    for _ in 0..3 {
        let (status, refusal) = answer(http().post(&token)).await;
        assert_eq!((status.as_u16(), refusal["code"].as_u64()), (503, Some(503)));
    }
    assert_eq!(answer(http().get(&faults)).await.1[0]["route"], "token");
    assert_eq!(http().delete(&faults).send().await.unwrap().status(), 204);
    assert_eq!(answer(http().post(&token)).await.0, 400);
    let wrong = json!({ "route": "nowhere", "fault": "drop_before" });
    assert_eq!(http().post(&faults).json(&wrong).send().await.unwrap().status(), 422);
}

#[tokio::test]
async fn a_stopped_simulator_cuts_connections_and_frees_its_port() {
    let simulator = demo().await;
    let url = simulator.url().to_owned();
    let client = http();
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    let mut events = client.get(format!("{url}/_simulator/events")).send().await.unwrap();
    simulator.stop().await;
    while let Ok(Some(_)) = events.chunk().await {}
    assert!(client.get(&url).send().await.unwrap_err().is_connect());
}
