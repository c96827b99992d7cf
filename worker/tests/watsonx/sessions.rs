//! Sessions, both styles of paths, and what a turn carries.

use integration::WatsonxLocation;
use message::Media;
use message::failure::FailureKind;
use serde_json::{Value, json};
use simulator::{Answer, Fault, Route};
use worker::assistant::{Input, Item};

use crate::stand::{Customer, calls, location, settings, simulated, texts};

#[tokio::test]
async fn a_session_is_opened_once_and_used_for_every_turn() {
    let simulator = simulated().await;
    let mut customer = Customer::at(&simulator);
    for turn in 1..=3 {
        let answer = customer.say("count").await.unwrap();
        assert_eq!(texts(&answer), [format!("This is turn {turn} of our conversation.")]);
    }
    assert_eq!(calls(&simulator, Route::AssistantSession).len(), 1);
}

#[tokio::test]
async fn both_styles_of_paths_are_spoken() {
    let simulator = simulated().await;
    let newer = location(&simulator);
    let older = WatsonxLocation { environment_id: None, url: simulator.url().to_owned(), ..newer.clone() };
    let (assistant, environment) = (newer.assistant_id.clone(), newer.environment_id.clone().unwrap());
    for location in [newer, older] {
        Customer::of(settings(vec![location])).say("hello").await.unwrap();
    }
    let opened = calls(&simulator, Route::AssistantSession);
    let expected = [
        format!("/instances/i-1/v2/assistants/{assistant}/environments/{environment}/sessions"),
        format!("/v2/assistants/{assistant}/sessions"),
    ];
    assert_eq!(opened.iter().map(|call| call.path.as_str()).collect::<Vec<_>>(), expected);
    assert!(opened.iter().all(|call| call.query.as_deref() == Some("version=2024-08-25") && call.body == "{}"));
    assert_eq!(calls(&simulator, Route::AssistantMessage).len(), 2);
}

#[tokio::test]
async fn a_session_that_is_gone_is_replaced_and_the_turn_sent_once_more() {
    let simulator = simulated().await;
    let mut customer = Customer::at(&simulator);
    customer.say("hello").await.unwrap();
    simulator.assistant().expire_sessions();
    assert_eq!(texts(&customer.say("count").await.unwrap()), ["This is turn 1 of our conversation."]);
    let statuses: Vec<_> = simulator.requests().iter().map(|request| request.status.unwrap()).collect();
    assert_eq!(statuses, [201, 200, 404, 201, 200]);
    assert_eq!(texts(&customer.say("count").await.unwrap()), ["This is turn 2 of our conversation."]);
}

#[tokio::test]
async fn sessions_that_are_always_gone_are_not_chased() {
    let simulator = simulated().await;
    simulator.fail(Route::AssistantMessage, Fault::status(404).always());
    let failure = Customer::at(&simulator).say("hello").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Misconfigured);
    assert_eq!(calls(&simulator, Route::AssistantSession).len(), 2);
    assert_eq!(calls(&simulator, Route::AssistantMessage).len(), 2);
}

#[tokio::test]
async fn a_text_that_watsonx_would_refuse_is_made_fit() {
    let simulator = simulated().await;
    let text = format!("echo a\r\n\tb {}", "🎉".repeat(3000));
    let answer = Customer::at(&simulator).say(&text).await.unwrap();
    let echoed = texts(&answer)[0].to_owned();
    assert!(echoed.starts_with("a   b 🎉"), "{}", echoed.chars().take(12).collect::<String>());
    assert_eq!(echoed.chars().count(), 2048 - "echo ".len());
}

#[tokio::test]
async fn a_chosen_suggestion_is_understood() {
    let simulator = simulated().await;
    let mut customer = Customer::at(&simulator);
    let answer = customer.say("order").await.unwrap();
    let Item::Suggestions(list) = &answer.items[0] else { panic!("{answer:?}") };
    let chosen = customer.turn(Input::Choice(&list.choices[1].input)).await.unwrap();
    assert_eq!(texts(&chosen), ["You meant change order. Good choice."]);
}

#[tokio::test]
async fn both_kinds_of_skill_can_read_the_reserved_variables() {
    let simulator = simulated().await;
    let mut customer = Customer::at(&simulator);
    customer.media = vec![Media { url: "https://example.com/cat".into(), content_type: Some("image/png".into()) }];
    customer.say("look").await.unwrap();
    customer.media.clear();
    customer.say("and now?").await.unwrap();
    let turns = simulator.assistant().turns();
    for (turn, media) in turns
        .iter()
        .zip([json!([{ "mediaURL": "https://example.com/cat", "mediaContentType": "image/png" }]), Value::Null])
    {
        for place in ["/skills/main skill/user_defined", "/skills/actions skill/skill_variables"] {
            let variables = turn.context.pointer(place).unwrap();
            let expected = json!({
                "smsTenantPhoneNumber": "+17205550100",
                "smsUserPhoneNumber": "+13035550199",
                "smsSessionID": "6b1c36a5-0d3d-5f2e-9d67-1a2b3c4d5e6f",
                "smsMedia": media,
            });
            assert_eq!(*variables, expected);
        }
        assert_eq!(turn.context.pointer("/integrations/channel/name"), Some(&json!("SMS")));
        assert_eq!(turn.request["user_id"], "0123456789abcdef0123456789abcdef");
    }
}

#[tokio::test]
async fn when_the_assistant_goes_on_by_itself_its_answers_are_joined() {
    let simulator = simulated().await;
    simulator.assistant().answer_with(|turn| {
        let skips = turn.text == "look it up";
        Answer::text(if skips { "One moment." } else { "Found it." })
            .with_context(json!({ "global": { "system": { "skip_user_input": skips } } }))
    });
    let answer = Customer::at(&simulator).say("look it up").await.unwrap();
    assert_eq!(texts(&answer), ["One moment.", "Found it."]);
    let asked: Vec<String> = simulator.assistant().turns().into_iter().map(|turn| turn.text).collect();
    assert_eq!(asked, ["look it up", ""]);
}

#[tokio::test]
async fn an_assistant_that_goes_on_for_ever_is_stopped() {
    let simulator = simulated().await;
    let on = json!({ "global": { "system": { "skip_user_input": true } } });
    simulator.assistant().answer_with(move |_| Answer::text("and").with_context(on.clone()));
    let answer = Customer::at(&simulator).say("go").await.unwrap();
    assert_eq!(texts(&answer).len(), 6);
}

#[tokio::test]
async fn an_end_session_item_ends_the_session() {
    let simulator = simulated().await;
    let mut customer = Customer::at(&simulator);
    assert!(!customer.say("hello").await.unwrap().ends_session);
    assert!(customer.say("bye").await.unwrap().ends_session);
}
