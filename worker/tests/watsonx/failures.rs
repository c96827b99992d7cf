//! What is tried again, how often, and what is not.

use std::time::{Duration, Instant};

use integration::WatsonxSettings;
use message::failure::FailureKind;
use serde_json::json;
use simulator::{Answer, Fault, Route};

use crate::stand::{Customer, calls, location, settings, simulated, texts};

#[tokio::test]
async fn passing_failures_are_tried_again() {
    let passing = [Fault::status(500), Fault::status(503), Fault::DropBefore, Fault::DropAfter, Fault::wrong_json()];
    for fault in passing {
        let simulator = simulated().await;
        simulator.fail(Route::AssistantSession, fault.clone());
        simulator.fail(Route::AssistantMessage, fault.clone());
        let mut customer = Customer::at(&simulator);
        let answer = customer.say("echo yes").await.unwrap_or_else(|failure| panic!("{fault:?}: {failure}"));
        assert_eq!(texts(&answer), ["yes"]);
        assert_eq!(calls(&simulator, Route::AssistantMessage).len(), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn retries_end_and_every_attempt_is_kept() {
    let simulator = simulated().await;
    simulator.fail(Route::AssistantMessage, Fault::status(502).always());
    let mut customer = Customer::at(&simulator);
    let failure = customer.say("hello").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Transient);
    assert_eq!(failure.code.as_deref(), Some("502"));
    assert_eq!(calls(&simulator, Route::AssistantMessage).len(), 3);
    assert_eq!(customer.attempts.len(), 3);
}

#[tokio::test]
async fn refusals_are_not_tried_again_and_explained_without_the_text() {
    for (status, kind) in
        [(400, FailureKind::Permanent), (422, FailureKind::Permanent), (403, FailureKind::Misconfigured)]
    {
        let simulator = simulated().await;
        let body = json!({ "error": "Bad", "errors": [{ "message": "field x is wrong near 'my secret words'" }] });
        simulator.fail(Route::AssistantMessage, Fault::status_with_body(status, body.to_string()).always());
        let failure = Customer::at(&simulator).say("these are my secret words").await.unwrap_err();
        assert_eq!(failure.kind, kind);
        assert!(!failure.to_string().contains("secret"), "{failure}");
        assert_eq!(calls(&simulator, Route::AssistantMessage).len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_wish_to_slow_down_is_honoured() {
    let simulator = simulated().await;
    simulator.fail(Route::AssistantMessage, Fault::retry_after(429, 1));
    let started = Instant::now();
    Customer::at(&simulator).say("hello").await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_wish_to_wait_for_longer_than_a_turn_lasts_ends_it() {
    let simulator = simulated().await;
    simulator.fail(Route::AssistantMessage, Fault::retry_after(503, 3600).always());
    let failure = Customer::at(&simulator).say("hello").await.unwrap_err();
    assert_eq!(failure.retry_after, Some(Duration::from_secs(3600)));
    assert_eq!(calls(&simulator, Route::AssistantMessage).len(), 1);
}

#[tokio::test]
async fn an_answer_that_comes_too_late_counts_as_unknown_and_is_asked_for_again() {
    let simulator = simulated().await;
    simulator.fail(Route::AssistantMessage, Fault::delay(Duration::from_secs(20)).always());
    let timeout = Duration::from_millis(300);
    let mut customer = Customer::of(WatsonxSettings { timeout, retries: 1, ..settings(vec![location(&simulator)]) });
    let failure = customer.say("hello").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unknown);
    assert_eq!(customer.attempts.len(), 2);
    simulator.clear_faults();
    customer.say("hello").await.unwrap();
}

#[tokio::test]
async fn the_assistant_may_set_how_long_it_is_waited_for() {
    let simulator = simulated().await;
    let variables =
        json!({ "skills": { "main skill": { "user_defined": { "smsConversationResponseTimeout": 200 } } } });
    simulator.assistant().answer_with(move |_| Answer::text("ok").with_context(variables.clone()));
    let mut customer = Customer::of(WatsonxSettings { retries: 5, ..settings(vec![location(&simulator)]) });
    customer.say("hello").await.unwrap();
    simulator.fail(Route::AssistantMessage, Fault::delay(Duration::from_secs(20)).always());
    let failure = customer.say("hello").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unknown);
    assert_eq!(customer.attempts.len(), 2, "one more attempt, as IBM documents it");
}
