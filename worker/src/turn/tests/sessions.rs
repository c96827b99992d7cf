//! Sessions, open lists, and which customers are answered at all.

use std::time::Duration;

use integration::Options;
use message::Address;
use serde_json::{Value, json};
use work::Handler as _;

use super::stand::{Stand, offers, says};
use super::{ending, texts};

#[tokio::test]
async fn a_session_goes_on_until_it_times_out_and_customers_keep_their_name() {
    let stand = Stand::echoing(Options { session_timeout: Duration::from_secs(60), ..Options::default() });
    for (id, wait_s) in [("1", 0), ("2", 59), ("3", 59), ("4", 61)] {
        stand.pass(wait_s);
        stand.handler.handle(&mut stand.text(id, id)).await;
    }
    let asked = stand.asked();
    let states: Vec<&Value> = asked.iter().map(|a| &a.state).collect();
    assert_eq!(states, [&Value::Null, &json!("after 1"), &json!("after 2"), &Value::Null]);
    assert_eq!(asked[0].sms_session, asked[2].sms_session);
    assert_ne!(asked[0].sms_session, asked[3].sms_session);
    assert_eq!(asked[0].user_id, asked[3].user_id);
    assert_eq!(asked[0].user_id.len(), 32);
}

#[tokio::test]
async fn a_session_that_the_assistant_ends_is_over() {
    let stand =
        Stand::new(Options::default(), |_, _| Ok(crate::assistant::Answer { ends_session: true, ..says("bye") }));
    stand.handler.handle(&mut stand.text("1", "a")).await;
    stand.handler.handle(&mut stand.text("2", "b")).await;
    assert_eq!(stand.asked()[1].state, Value::Null);
}

#[tokio::test]
async fn a_choice_from_the_open_list_reaches_the_assistant_unchanged() {
    let stand = Stand::new(Options::default(), |turn, _| {
        Ok(if turn == 0 { offers(&["Hours", "Balance"]) } else { says("ok") })
    });
    let shown = stand.handler.handle(&mut stand.text("1", "hello")).await;
    assert_eq!(texts(&shown.effects), ["Pick\n1. Hours\n2. Balance"]);
    for (id, text) in [("2", "what?"), ("3", "#2"), ("4", "2")] {
        stand.handler.handle(&mut stand.text(id, text)).await;
    }
    let inputs: Vec<Value> = stand.asked().into_iter().map(|a| a.input).collect();
    let chosen = json!({ "text": "Balance", "suggestion_id": "s" });
    assert_eq!(inputs, [json!("hello"), json!("what?"), chosen, json!("2")]);
}

#[tokio::test]
async fn long_answers_leave_as_parts_in_order_with_ids_of_their_own() {
    let options = Options { max_part_chars: 10, ..Options::default() };
    let stand = Stand::new(options, |_, _| Ok(says("one two three four")));
    let envelope = stand.text("1", "x");
    let decision = stand.handler.handle(&mut envelope.clone()).await;
    assert_eq!(texts(&decision.effects), ["one two", "three four"]);
    let ids: Vec<_> = decision.effects.iter().map(|e| e.id.unwrap()).collect();
    assert_eq!(ids, [envelope.id.derive("part/0"), envelope.id.derive("part/1")]);
}

#[tokio::test]
async fn texts_that_are_not_to_be_answered_are_refused_by_name() {
    let closed = Stand::echoing(Options { initiate_from_inbound: false, ..Options::default() });
    let refused = closed.handler.handle(&mut closed.text("1", "x")).await;
    assert_eq!(ending(&refused.settlement), "session_not_open");

    let german = Stand::echoing(Options { allowed_country_codes: vec!["49".into()], ..Options::default() });
    let mut envelope = german.text("1", "x");
    assert_eq!(ending(&german.handler.handle(&mut envelope).await.settlement), "country");
    envelope.conversation.customer = Address::parse("+4915112345678").unwrap();
    assert_eq!(ending(&german.handler.handle(&mut envelope).await.settlement), "answered");
    envelope.conversation.customer = Address::parse("rcs:brand_agent").unwrap();
    assert_eq!(ending(&german.handler.handle(&mut envelope).await.settlement), "country", "it has none");
    envelope.conversation.customer = Address::parse("AT&T").unwrap();
    assert_eq!(ending(&german.handler.handle(&mut envelope).await.settlement), "unanswerable");
    envelope.conversation.ours = Address::parse("+17205550111").unwrap();
    assert_eq!(ending(&german.handler.handle(&mut envelope).await.settlement), "number");
}

#[tokio::test]
async fn texts_that_cannot_be_answered_any_more_become_dead_letters() {
    let stand = Stand::echoing(Options { reply_max_age: Duration::from_secs(60), ..Options::default() });
    let mut late = stand.text("1", "x");
    late.accepted_at -= Duration::from_secs(61);
    assert_eq!(ending(&stand.handler.handle(&mut late).await.settlement), "expired");
    let mut stray = stand.text("2", "x");
    stray.integration = message::IntegrationId::parse("other").unwrap();
    assert_eq!(ending(&stand.handler.handle(&mut stray).await.settlement), "unknown_integration");
    assert!(stand.asked().is_empty());
}
