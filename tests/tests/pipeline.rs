//! The main job, through the front door, on both backends: a text in, a reply out. Guarantees by number.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use simulator::{Answer, Fault, Route, Text};
use tests::house::{Assistant, Backend, Blueprint, House, Provider};

/// Runs each test on the embedded backend and on real servers.
macro_rules! on_both_backends {
    ($($test:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test] async fn $test() { super::$test(super::Backend::Embedded).await; })+
        }
        mod servers {
            $(#[tokio::test] async fn $test() { super::$test(super::Backend::shared_servers()).await; })+
        }
    };
}

on_both_backends!(
    twilio_and_the_scripted_assistant_hold_a_conversation,
    intelepeer_and_watsonx_hold_a_conversation,
    g3_a_repeated_webhook_makes_one_turn_and_one_text,
    g4_turns_of_many_conversations_are_answered_in_order,
    g4_order_holds_while_workers_join_and_leave,
    g5_an_assistant_beyond_reach_sends_the_failure_message_and_keeps_the_turn,
    g5_a_refused_part_is_dead_lettered_and_the_next_turn_goes_on,
    a_throttled_part_waits_as_long_as_it_was_told,
    a_burst_is_answered_once,
    receipts_are_taken,
);

async fn twilio_and_the_scripted_assistant_hold_a_conversation(backend: Backend) {
    let house = House::open(Blueprint { assistant: Assistant::Scripted, ..Blueprint::new(backend) }).await;
    let customer = "+13035550101";
    let answer = house.text(customer, "hello").await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""), "Twilio would text any words in the answer");
    assert!(house.replies(customer, 1).await[0].contains("\n1. "));
    house.text(customer, "#2").await;
    assert!(house.replies(customer, 2).await[1].contains("account"), "the number chose the second option");
    house.close(0).await;
}

async fn intelepeer_and_watsonx_hold_a_conversation(backend: Backend) {
    let house = House::open(Blueprint { provider: Provider::Intelepeer, ..Blueprint::new(backend) }).await;
    house.simulator.assistant().answer_with(|turn| Answer::text(format!("you said {}", turn.text)));
    let customer = "+13035550102";
    let answer = house.text(customer, "good morning").await;
    assert_eq!((answer.status, answer.body.as_str(), answer.attempts), (200, "", 1));
    assert_eq!(house.replies(customer, 1).await, ["you said good morning"]);
    house.text(customer, "two\nlines").await;
    assert_eq!(house.replies(customer, 2).await[1], "you said two lines");
    assert_eq!(house.simulator.assistant().open_sessions(), 1, "both turns share a session");
    house.close(0).await;
}

async fn g3_a_repeated_webhook_makes_one_turn_and_one_text(backend: Backend) {
    let house = House::open(Blueprint::new(backend)).await;
    house.simulator.assistant().answer_with(|turn| Answer::text(format!("you said {}", turn.text)));
    let customer = "+13035550103";
    let text = Text::new(customer, &house.number, "once").with_id("SM0123456789abcdef0123456789abcdef");
    for _ in 0..3 {
        assert_eq!(house.simulator.phone().send(text.clone()).await.unwrap().status, 204);
    }
    house.replies(customer, 1).await;
    // The next turn of the conversation ends only after the duplicates.
    house.text(customer, "twice").await;
    assert_eq!(house.replies(customer, 2).await, ["you said once", "you said twice"]);
    assert_eq!(house.simulator.assistant().turns().len(), 2);
    house.close(0).await;
}

const CONVERSATIONS: usize = 12;
const TURNS: usize = 8;

fn customer(number: usize) -> String {
    format!("+1303555{:04}", 2000 + number)
}

/// Echoes each text, some slowly and some quickly, so that turns in parallel would overtake each other.
fn echo_unevenly(house: &House) {
    house.simulator.assistant().answer_later_with(|turn| async move {
        let number: u64 = turn.text.parse().unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(if number.is_multiple_of(2) { 30 } else { 1 })).await;
        Answer::text(turn.text)
    });
}

async fn text_numbers(house: &House) {
    for turn in 0..TURNS {
        for conversation in 0..CONVERSATIONS {
            assert_eq!(house.text(&customer(conversation), &turn.to_string()).await.status, 204);
        }
    }
}

async fn assert_numbers_in_order(house: &House) {
    let expected: Vec<String> = (0..TURNS).map(|turn| turn.to_string()).collect();
    for conversation in 0..CONVERSATIONS {
        assert_eq!(house.replies(&customer(conversation), TURNS).await, expected, "conversation {conversation}");
    }
}

async fn g4_turns_of_many_conversations_are_answered_in_order(backend: Backend) {
    let house = House::open(Blueprint { workers: 2, ..Blueprint::new(backend) }).await;
    echo_unevenly(&house);
    text_numbers(&house).await;
    assert_numbers_in_order(&house).await;
    house.close(0).await;
}

async fn g4_order_holds_while_workers_join_and_leave(backend: Backend) {
    let mut house = House::open(Blueprint { workers: 0, ..Blueprint::new(backend) }).await;
    echo_unevenly(&house);
    let first = house.add_worker();
    text_numbers(&house).await;
    house.replies(&customer(0), 1).await;
    house.add_worker();
    first.start();
    house.replies(&customer(0), TURNS / 2).await;
    house.add_worker();
    assert_numbers_in_order(&house).await;
    let turns = house.simulator.assistant().turns().len();
    assert_eq!(turns, CONVERSATIONS * TURNS, "a worker that leaves finishes its turns first");
    house.close(0).await;
}

async fn g5_an_assistant_beyond_reach_sends_the_failure_message_and_keeps_the_turn(backend: Backend) {
    let blueprint = Blueprint::new(backend);
    let failure_message = blueprint.options.failure_message.clone();
    let house = House::open(blueprint).await;
    let customer = "+13035550105";
    house.simulator.fail(Route::AssistantSession, Fault::status(503).always());
    house.text(customer, "hello?").await;
    assert_eq!(house.replies(customer, 1).await, [failure_message]);
    house.await_depths(|depths| depths.dead == 1).await;
    house.simulator.clear_faults();
    house.simulator.assistant().answer_with(|turn| Answer::text(format!("you said {}", turn.text)));
    house.text(customer, "again").await;
    assert_eq!(house.replies(customer, 2).await[1], "you said again");
    house.close(1).await;
}

async fn g5_a_refused_part_is_dead_lettered_and_the_next_turn_goes_on(backend: Backend) {
    let house = House::open(Blueprint::new(backend)).await;
    house.simulator.assistant().answer_with(|turn| Answer::text(format!("you said {}", turn.text)));
    let customer = "+13035550106";
    let refusal = r#"{"code":21211,"message":"not a valid number","status":400}"#;
    house.simulator.fail(Route::TwilioSend, Fault::status_with_body(400, refusal));
    house.text(customer, "first").await;
    house.await_depths(|depths| depths.dead == 1).await;
    house.text(customer, "second").await;
    assert_eq!(house.replies(customer, 1).await, ["you said second"]);
    house.close(1).await;
}

async fn a_throttled_part_waits_as_long_as_it_was_told(backend: Backend) {
    let house = House::open(Blueprint::new(backend)).await;
    house.simulator.assistant().answer_with(|turn| Answer::text(turn.text.clone()));
    let customer = "+13035550107";
    house.simulator.fail(Route::TwilioSend, Fault::retry_after(429, 2));
    house.text(customer, "patience").await;
    house.replies(customer, 1).await;
    let sends: Vec<_> = house.simulator.requests().into_iter().filter(|r| r.route == Some(Route::TwilioSend)).collect();
    let [refused, accepted] = sends.as_slice() else { panic!("two calls, not {}", sends.len()) };
    assert_eq!((refused.status, accepted.status), (Some(429), Some(201)));
    let waited = Duration::try_from(accepted.at.duration_since(refused.at)).unwrap();
    assert!(waited >= Duration::from_secs(2), "waited only {waited:?}");
    house.close(0).await;
}

async fn a_burst_is_answered_once(backend: Backend) {
    let mut blueprint = Blueprint::new(backend);
    blueprint.options.coalesce_window = Duration::from_millis(700);
    let house = House::open(blueprint).await;
    house.simulator.assistant().answer_with(|turn| Answer::text(format!("you said {}", turn.text)));
    let customer = "+13035550108";
    for word in ["I", "have", "a question"] {
        house.text(customer, word).await;
    }
    assert_eq!(house.replies(customer, 1).await, ["you said I have a question"]);
    assert_eq!(house.simulator.assistant().turns().len(), 1);
    house.close(0).await;
}

async fn receipts_are_taken(backend: Backend) {
    let house = House::open(Blueprint::new(backend)).await;
    let customer = "+13035550109";
    house.text(customer, "hello").await;
    house.replies(customer, 1).await;
    let told = || house.simulator.callbacks().into_iter().filter(|callback| callback.status == Some(204)).count();
    let all_told = async {
        while told() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(tests::house::DEADLINE, all_told).await.expect("sent and delivered are reported");
    house.close(0).await;
}
