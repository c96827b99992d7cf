//! Backup locations and the circuit breaker.

use simulator::{Fault, Route, Simulator};

use crate::stand::{Customer, calls, location, settings, simulated, texts};

async fn two_places() -> (Simulator, Simulator, Customer) {
    let (first, backup) = (simulated().await, simulated().await);
    let customer = Customer::of(settings(vec![location(&first), location(&backup)]));
    (first, backup, customer)
}

fn breaks(simulator: &Simulator) {
    simulator.fail(Route::AssistantSession, Fault::status(503).always());
    simulator.fail(Route::AssistantMessage, Fault::status(503).always());
}

#[tokio::test]
async fn the_backup_answers_when_the_first_is_beyond_reach_and_keeps_the_session() {
    let (first, backup, mut customer) = two_places().await;
    assert_eq!(texts(&customer.say("count").await.unwrap()), ["This is turn 1 of our conversation."]);
    assert!(backup.requests().is_empty());
    breaks(&first);
    assert_eq!(texts(&customer.say("count").await.unwrap()), ["This is turn 1 of our conversation."]);
    first.clear_faults();
    assert_eq!(texts(&customer.say("count").await.unwrap()), ["This is turn 2 of our conversation."]);
    assert_eq!(calls(&backup, Route::AssistantMessage).len(), 2);
    customer.another().say("hello").await.unwrap();
    assert_eq!(calls(&backup, Route::AssistantMessage).len(), 2, "new sessions begin at the first");
}

#[tokio::test]
async fn a_location_that_is_not_there_at_all_is_passed_over() {
    let backup = simulated().await;
    let gone = simulated().await;
    let nowhere = location(&gone);
    gone.stop().await;
    let mut customer = Customer::of(settings(vec![nowhere, location(&backup)]));
    assert_eq!(texts(&customer.say("echo here").await.unwrap()), ["here"]);
}

#[tokio::test]
async fn a_location_that_keeps_failing_is_left_alone_for_a_while() {
    let (first, backup, customer) = two_places().await;
    breaks(&first);
    for _ in 0..3 {
        customer.another().say("hello").await.unwrap();
    }
    let asked = first.requests().len();
    assert_eq!(asked, 9, "three turns with two retries each");
    customer.another().say("hello").await.unwrap();
    assert_eq!(first.requests().len(), asked);
    assert_eq!(calls(&backup, Route::AssistantMessage).len(), 4);
}

#[tokio::test]
async fn when_every_location_keeps_failing_each_is_still_asked_once() {
    let (first, backup, customer) = two_places().await;
    breaks(&first);
    breaks(&backup);
    for _ in 0..3 {
        customer.another().say("hello").await.unwrap_err();
    }
    let asked = (first.requests().len(), backup.requests().len());
    customer.another().say("hello").await.unwrap_err();
    assert_eq!((first.requests().len(), backup.requests().len()), (asked.0 + 1, asked.1 + 1));
    backup.clear_faults();
    assert_eq!(texts(&customer.another().say("echo back").await.unwrap()), ["back"]);
}

#[tokio::test]
async fn a_text_that_the_first_refuses_is_not_shown_to_the_backup() {
    let (first, backup, mut customer) = two_places().await;
    first.fail(Route::AssistantMessage, Fault::status(400).always());
    customer.say("hello").await.unwrap_err();
    assert!(backup.requests().is_empty());
}
