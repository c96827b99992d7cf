//! A text is answered once, however often and by however many workers it is taken, and whatever happens to the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use integration::Options;
use message::Envelope;
use work::Handler as _;

use super::stand::{Stand, says};
use super::{ending, texts};

#[tokio::test]
async fn a_turn_handed_out_again_publishes_the_same_parts_and_asks_nobody() {
    let stand = Stand::echoing(Options::default());
    let first = stand.handler.handle(&mut stand.text("1", "hello")).await;
    let again = stand.handler.handle(&mut stand.text("1", "hello")).await;
    assert_eq!((ending(&first.settlement), ending(&again.settlement)), ("answered", "duplicate"));
    assert_eq!(texts(&first.effects), ["hello"]);
    assert_eq!(first.effects, again.effects);
    assert_eq!(stand.asked().len(), 1);
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_found_out_and_the_turn_counts_as_answered() {
    let stand = Stand::echoing(Options::default());
    stand.handler.handle(&mut stand.text("0", "warm up the customer's name")).await;
    stand.store.unknown.store(1, Ordering::SeqCst);
    let decision = stand.handler.handle(&mut stand.text("1", "hello")).await;
    assert_eq!(ending(&decision.settlement), "answered");
    assert_eq!(texts(&decision.effects), ["hello"]);
    assert_eq!(stand.asked().len(), 2);
}

#[tokio::test]
async fn while_the_store_is_away_the_delivery_is_held_and_then_answered() {
    let stand = Stand::echoing(Options::default());
    stand.store.away.store(2, Ordering::SeqCst);
    let decision = stand.handler.handle(&mut stand.text("1", "hello")).await;
    assert_eq!(ending(&decision.settlement), "answered");
    assert_eq!(stand.store.away.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn stopping_while_the_store_is_away_gives_the_delivery_back() {
    let stand = Stand::echoing(Options::default());
    stand.store.away.store(usize::MAX, Ordering::SeqCst);
    stand.shutdown.start();
    let decision = stand.handler.handle(&mut stand.text("1", "hello")).await;
    assert_eq!(ending(&decision.settlement), "give back");
    assert!(decision.effects.is_empty() && stand.asked().is_empty());
}

#[tokio::test]
async fn when_another_worker_was_first_with_the_same_turn_its_parts_are_published() {
    let stand = with_rival("1", "rival");
    let decision = stand.handler.handle(&mut stand.text("1", "mine")).await;
    assert_eq!(ending(&decision.settlement), "duplicate");
    assert_eq!(texts(&decision.effects), ["rival"]);
}

#[tokio::test]
async fn when_another_worker_was_first_with_another_turn_ours_is_taken_again_in_its_session() {
    let stand = with_rival("2", "rival");
    let decision = stand.handler.handle(&mut stand.text("1", "mine")).await;
    assert_eq!(ending(&decision.settlement), "answered");
    assert_eq!(texts(&decision.effects), ["mine"]);
    let asked = stand.asked();
    assert_eq!(asked.len(), 3, "ours, the rival's, ours again");
    assert_eq!(asked[2].state, "after rival");
}

/// A stand where, while the first turn is being asked about, another worker takes message `id` and answers `text`.
fn with_rival(id: &str, text: &'static str) -> Stand {
    let cell: Arc<std::sync::OnceLock<(Arc<crate::turn::TurnHandler>, Envelope)>> = Arc::default();
    let rival = cell.clone();
    let stand = Stand::new(Options::default(), move |before, asked| {
        if before == 0 {
            let (handler, mut envelope) = rival.get().cloned().unwrap();
            // The script is not async; another thread with a runtime of its own plays the other worker.
            let other = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(handler.handle(&mut envelope))
            });
            assert_eq!(ending(&other.join().unwrap().settlement), "answered");
        }
        Ok(says(asked.input.as_str().unwrap()))
    });
    let envelope = stand.text(id, text);
    cell.set((stand.handler.clone(), envelope)).ok().unwrap();
    stand
}
