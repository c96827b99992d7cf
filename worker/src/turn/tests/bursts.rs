//! Bursts: several texts, one turn, and each still answered once however they come again.

use std::time::Duration;

use broker::{Destination, Stage};
use integration::Options;
use message::Envelope;
use message::failure::Failure;
use work::Handler as _;

use super::stand::{Stand, says};
use super::{ending, replay, texts};

fn burst(stand: &Stand, ids: &[&str]) -> Envelope {
    let mut all = ids.iter().map(|id| stand.text(id, id));
    let mut first = all.next().unwrap();
    all.for_each(|later| first.join(later));
    first
}

#[tokio::test]
async fn texts_wait_for_each_other_as_long_as_the_integration_says() {
    let stand = Stand::echoing(Options { coalesce_window: Duration::from_secs(3), ..Options::default() });
    let envelope = stand.text("1", "x");
    assert_eq!(stand.handler.join_window(&envelope), Duration::from_secs(3));
    assert_eq!(Stand::echoing(Options::default()).handler.join_window(&envelope), Duration::ZERO);
}

#[tokio::test]
async fn a_burst_is_one_turn_and_each_of_its_texts_is_done() {
    let stand = Stand::echoing(Options::default());
    let decision = stand.handler.handle(&mut burst(&stand, &["a", "b", "c"])).await;
    assert_eq!((ending(&decision.settlement), texts(&decision.effects)), ("answered", vec!["a\nb\nc".to_owned()]));
    for id in ["b", "c"] {
        let again = stand.handler.handle(&mut stand.text(id, id)).await;
        assert_eq!((ending(&again.settlement), texts(&again.effects)), ("duplicate", vec![]));
    }
    assert_eq!(stand.asked().len(), 1);
}

#[tokio::test]
async fn handed_out_again_with_later_texts_only_those_are_a_new_turn() {
    for again in [&["a", "b", "c", "d"][..], &["b", "c", "d"]] {
        let stand = Stand::echoing(Options::default());
        let first = stand.handler.handle(&mut burst(&stand, &["a", "b"])).await;
        let mut envelope = burst(&stand, again);
        let decision = stand.handler.handle(&mut envelope).await;
        assert_eq!(ending(&decision.settlement), "answered");
        let republished = if again[0] == "a" { texts(&first.effects) } else { vec![] };
        assert_eq!(texts(&decision.effects), [republished, vec!["c\nd".to_owned()]].concat());
        assert_eq!(stand.asked().len(), 2);
    }
}

/// A repeated webhook, or a message that a lost connection brought twice.
#[tokio::test]
async fn a_text_that_comes_twice_within_its_burst_is_said_once() {
    let stand = Stand::echoing(Options::default());
    let mut envelope = burst(&stand, &["a", "a", "b"]);
    envelope.join(burst(&stand, &["b", "a", "c"]));
    let decision = stand.handler.handle(&mut envelope).await;
    assert_eq!(texts(&decision.effects), ["a\nb\nc"]);
    let again = stand.handler.handle(&mut stand.text("a", "a")).await;
    assert_eq!((ending(&again.settlement), texts(&again.effects)), ("duplicate", vec!["a\nb\nc".to_owned()]));
}

/// Its parts may never have been published: the worker that took it may have been killed between the commit and the
/// publishing.
#[tokio::test]
async fn a_text_that_was_answered_before_is_no_part_of_a_burst_and_its_answer_is_published_again() {
    let stand = Stand::echoing(Options::default());
    stand.handler.handle(&mut stand.text("b", "b")).await;
    let decision = stand.handler.handle(&mut burst(&stand, &["a", "b", "c"])).await;
    assert_eq!(texts(&decision.effects), ["a\nc", "b"]);
    stand.handler.handle(&mut stand.text("e", "e")).await;
    let decision = stand.handler.handle(&mut burst(&stand, &["c", "e", "f"])).await;
    assert_eq!(texts(&decision.effects), ["e", "f"], "also behind one that is done");
}

#[tokio::test]
async fn a_text_that_failed_and_is_replayed_behind_another_is_asked_again() {
    let stand = failing_once();
    let mut replayed = stand.text("a", "a");
    assert_eq!(ending(&stand.handler.handle(&mut replayed).await.settlement), "assistant_unreachable");
    replay(&mut replayed);
    let mut envelope = stand.text("b", "b");
    envelope.join(replayed);
    let decision = stand.handler.handle(&mut envelope).await;
    assert_eq!((ending(&decision.settlement), texts(&decision.effects)), ("answered", vec!["b".into(), "a".into()]));
}

#[tokio::test]
async fn a_burst_that_failed_is_replayed_as_one() {
    let stand = failing_once();
    let mut envelope = burst(&stand, &["a", "b"]);
    assert_eq!(ending(&stand.handler.handle(&mut envelope).await.settlement), "assistant_unreachable");
    replay(&mut envelope);
    let replayed = stand.handler.handle(&mut envelope).await;
    assert_eq!((ending(&replayed.settlement), texts(&replayed.effects)), ("answered", vec!["a\nb".to_owned()]));
}

#[tokio::test]
async fn a_burst_that_failed_and_comes_again_with_a_later_text_stays_dead_while_that_is_answered() {
    let stand = failing_once();
    stand.handler.handle(&mut burst(&stand, &["a", "b"])).await;
    let mut envelope = burst(&stand, &["a", "b", "c"]);
    let decision = stand.handler.handle(&mut envelope).await;
    assert_eq!(ending(&decision.settlement), "answered");
    assert_eq!(envelope.id, stand.text("c", "c").id);
    let [failure, dead, answer] = &decision.effects[..] else { panic!("{decision:?}") };
    assert!(
        matches!(&dead.destination, Destination::Dead(Stage::Inbound, why) if why.name.as_str() == "assistant_unreachable")
    );
    let mut dead = Envelope::decode(&dead.payload).unwrap();
    assert_eq!((dead.id, dead.attempts.len()), (stand.text("a", "a").id, 1));
    assert_eq!(texts(&[failure.clone(), answer.clone()]), [Options::default().failure_message.as_str(), "c"]);
    replay(&mut dead);
    let replayed = stand.handler.handle(&mut dead).await;
    assert_eq!(texts(&replayed.effects), ["a\nb"]);
}

fn failing_once() -> Stand {
    Stand::new(Options::default(), |before, asked| match before {
        0 => Err(Failure::transient("down")),
        _ => Ok(says(asked.input.as_str().unwrap())),
    })
}
