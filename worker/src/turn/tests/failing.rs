//! An unreachable assistant: the failure message goes out once, and the turn waits among the dead letters.

use std::time::Duration;

use integration::Options;
use message::Envelope;
use message::failure::Failure;
use work::Handler as _;

use super::stand::{Stand, says};
use super::{ending, replay, texts};

fn failing_once() -> Stand {
    let options =
        Options { failure_message: "Sorry.".into(), session_timeout: Duration::from_secs(600), ..Options::default() };
    Stand::new(options, |before, _| if before == 0 { Err(Failure::transient("down")) } else { Ok(says("better now")) })
}

#[tokio::test]
async fn the_failure_message_goes_out_and_the_turn_is_dead_with_its_attempts() {
    let stand = failing_once();
    let mut envelope = stand.text("1", "hello");
    let decision = stand.handler.handle(&mut envelope).await;
    assert_eq!(ending(&decision.settlement), "assistant_unreachable");
    assert_eq!(texts(&decision.effects), ["Sorry."]);
    assert_eq!(envelope.attempts.len(), 1);
    assert_eq!(envelope.attempts[0].what, "down");
}

#[tokio::test]
async fn b10_a_turn_that_takes_too_long_ends_as_one_whose_assistant_is_beyond_reach() {
    let options = Options { failure_message: "Sorry.".into(), ..Options::default() };
    let stand = Stand::unanswered(options, Duration::from_millis(50));
    let mut envelope = stand.text("1", "hello");
    let decision = stand.handler.handle(&mut envelope).await;
    assert_eq!(ending(&decision.settlement), "assistant_unreachable");
    assert_eq!(texts(&decision.effects), ["Sorry."]);
    let what: Vec<_> = envelope.attempts.iter().map(|attempt| attempt.what.as_str()).collect();
    assert_eq!(what, ["no answer"], "each call is told");
}

#[tokio::test]
async fn handed_out_again_it_fails_again_with_the_same_part_and_asks_nobody() {
    let stand = failing_once();
    let first = stand.handler.handle(&mut stand.text("1", "hello")).await;
    let mut envelope = stand.text("1", "hello");
    let again = stand.handler.handle(&mut envelope).await;
    assert_eq!(ending(&again.settlement), "assistant_unreachable");
    assert_eq!(first.effects, again.effects);
    assert_eq!(envelope.attempts.len(), 1);
    assert_eq!(stand.asked().len(), 1);
}

#[tokio::test]
async fn g3_replayed_it_is_asked_again_and_answered_once_however_often_it_is_replayed() {
    let stand = failing_once();
    let mut envelope = stand.text("1", "hello");
    let failed = stand.handler.handle(&mut envelope).await;
    let unreplayed = stand.handler.handle(&mut envelope.clone()).await;
    assert_eq!(ending(&unreplayed.settlement), "assistant_unreachable", "a redelivery, whatever its attempts");
    replay(&mut envelope);
    let mut twice = envelope.clone();
    let replayed = stand.handler.handle(&mut envelope).await;
    assert_eq!(ending(&replayed.settlement), "answered");
    assert_eq!(texts(&replayed.effects), ["better now"]);
    assert_ne!(failed.effects[0].id, replayed.effects[0].id, "the sender must not take one for the other");
    assert_eq!(ending(&stand.handler.handle(&mut envelope).await.settlement), "duplicate");
    replay(&mut twice);
    assert_eq!(ending(&stand.handler.handle(&mut twice).await.settlement), "duplicate");
    assert_eq!(stand.asked().len(), 2);
}

#[tokio::test]
async fn g5_a_replay_that_fails_is_dead_again_with_its_whole_history_and_can_be_replayed_again() {
    let stand = Stand::new(Options::default(), |before, _| match before {
        0 | 1 => Err(Failure::transient("down")),
        _ => Ok(says("fine")),
    });
    let mut envelope = stand.text("1", "hello");
    for times in 1..=2 {
        assert_eq!(ending(&stand.handler.handle(&mut envelope).await.settlement), "assistant_unreachable");
        assert_eq!((envelope.attempts.len(), envelope.times_replayed()), (times, times - 1));
        let redelivered = stand.handler.handle(&mut envelope.clone()).await;
        assert_eq!(ending(&redelivered.settlement), "assistant_unreachable");
        assert_eq!(stand.asked().len(), times, "a redelivery of the replay asks nobody");
        replay(&mut envelope);
    }
    assert_eq!(ending(&stand.handler.handle(&mut envelope).await.settlement), "answered");
}

#[tokio::test]
async fn the_age_of_a_replayed_text_and_of_its_answer_counts_from_the_replay() {
    let stand = Stand::echoing(Options { reply_max_age: Duration::from_secs(60), ..Options::default() });
    let mut envelope = stand.text("1", "hello");
    let accepted_at = envelope.accepted_at - Duration::from_secs(3600);
    envelope.accepted_at = accepted_at;
    assert_eq!(ending(&stand.handler.handle(&mut envelope).await.settlement), "expired");
    replay(&mut envelope);
    let replayed_at = envelope.age_counts_from();
    let decision = stand.handler.handle(&mut envelope).await;
    assert_eq!(ending(&decision.settlement), "answered");
    let part = Envelope::decode(&decision.effects[0].payload).unwrap();
    assert_eq!((part.accepted_at, part.age_counts_from(), part.times_replayed()), (accepted_at, replayed_at, 0));
}

#[tokio::test]
async fn a_failed_turn_leaves_the_session_as_it_was() {
    let stand = Stand::new(Options::default(), |before, _| match before {
        1 => Err(Failure::misconfigured("wrong key")),
        _ => Ok(says("fine")),
    });
    for (id, expected) in [("1", "answered"), ("2", "assistant_misconfigured"), ("3", "answered")] {
        assert_eq!(ending(&stand.handler.handle(&mut stand.text(id, "x")).await.settlement), expected);
    }
    let asked = stand.asked();
    assert_eq!(asked[2].state, "after fine");
    assert_eq!(asked[0].sms_session, asked[2].sms_session);
}
