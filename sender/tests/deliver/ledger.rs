//! The ledger comes first: without it nothing is sent, and its records hold for the process that takes over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use message::failure::Failure;
use simulator::{Fault, Route};
use store::{Commit, Key, Record, Store, Write};
use tokio::sync::Notify;

use crate::rig::{Rig, said};

/// What goes wrong with a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// It is not made.
    Refused,
    /// It is made, and the answer is lost.
    Made,
}

/// A store whose commits fail from the `good`th on, `bad` times.
#[derive(Debug)]
struct Shaky {
    inner: Arc<dyn Store>,
    trouble: Trouble,
    good: AtomicU32,
    bad: AtomicU32,
    failed: Notify,
}

impl Shaky {
    fn under(rig: &mut Rig, trouble: Trouble, good: u32, bad: u32) -> Arc<Self> {
        let inner = rig.ports.store.clone();
        let shaky = Arc::new(Self { inner, trouble, good: good.into(), bad: bad.into(), failed: Notify::new() });
        rig.ports.store = shaky.clone();
        shaky
    }
}

fn take_one(count: &AtomicU32) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[async_trait]
impl Store for Shaky {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Failure> {
        self.inner.get(keys).await
    }

    async fn commit(&self, writes: &[Write]) -> Result<Commit, Failure> {
        if take_one(&self.good) || !take_one(&self.bad) {
            return self.inner.commit(writes).await;
        }
        if self.trouble == Trouble::Made {
            // Only the first of a repeated commit finds what it expects.
            let (Commit::Applied | Commit::Conflict) = self.inner.commit(writes).await?;
        }
        self.failed.notify_one();
        Err(Failure::unknown("the store is shaky"))
    }

    async fn check(&self) -> Result<(), Failure> {
        self.inner.check().await
    }
}

#[tokio::test]
async fn nothing_is_sent_while_the_ledger_cannot_be_written() {
    let mut rig = Rig::twilio().await;
    let shaky = Shaky::under(&mut rig, Trouble::Refused, 0, u32::MAX);
    let deliverer = rig.deliverer();
    let mut part = rig.part(0, "hi");
    let stop = async {
        shaky.failed.notified().await;
        rig.shutdown.start();
    };
    let (decision, ()) = tokio::join!(deliverer.handle(&mut part), stop);
    assert_eq!(said(&decision), "give back");
    assert_eq!(part.attempts, []);
    assert_eq!(rig.calls(Route::TwilioSend).len(), 0);
}

#[tokio::test]
async fn a_store_that_comes_back_makes_one_text_wherever_it_went_away() {
    for trouble in [Trouble::Refused, Trouble::Made] {
        for good in 0..3 {
            let mut rig = Rig::twilio().await;
            Shaky::under(&mut rig, trouble, good, 2);
            let mut part = rig.part(0, "hi");
            assert_eq!(rig.deliver(&mut part).await, "accepted", "{trouble:?} after {good}");
            assert_eq!(part.attempts, []);
            assert_eq!(rig.deliver(&mut part).await, "duplicate", "{trouble:?} after {good}");
            assert_eq!(rig.accepted(), ["hi"], "{trouble:?} after {good}");
        }
    }
}

#[tokio::test]
async fn an_acceptance_that_could_not_be_noted_is_found_by_whoever_takes_over() {
    let mut rig = Rig::twilio().await;
    let shaky = Shaky::under(&mut rig, Trouble::Refused, 1, u32::MAX);
    let deliverer = rig.deliverer();
    let mut part = rig.part(0, "hi");
    let stop = async {
        shaky.failed.notified().await;
        rig.shutdown.start();
    };
    let (decision, ()) = tokio::join!(deliverer.handle(&mut part), stop);
    assert_eq!(said(&decision), "give back");
    rig.ports.store = shaky.inner.clone();
    let rig = rig.restarted();
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "accepted");
    assert_eq!(rig.accepted(), ["hi"]);
    assert_eq!(rig.calls(Route::TwilioSend).len(), 1);
}

#[tokio::test]
async fn two_who_hold_the_same_part_make_one_text() {
    let rig = Rig::twilio().await;
    let [one, other] = [rig.deliverer(), rig.deliverer()];
    for index in 0..5 {
        let [mut part, mut same] = [rig.part(index, "hi"), rig.part(index, "hi")];
        rig.simulator.fail(Route::TwilioSend, Fault::delay(Duration::from_millis(40)));
        let decisions = tokio::join!(one.handle(&mut part), other.handle(&mut same));
        assert_eq!(rig.accepted().len(), usize::from(index) + 1, "{decisions:?}");
    }
}

#[tokio::test]
async fn g3_a_receipt_that_names_the_part_settles_an_unknown_outcome_without_asking() {
    let mut rig = Rig::twilio().await;
    rig.pace.quiet = Duration::from_secs(3600);
    rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
    rig.simulator.fail(Route::TwilioList, Fault::status(500).always());
    let part = rig.part(0, "hi");
    let deliverer = rig.deliverer();
    let (mut waiting, unanswered) = (part.clone(), rig.simulator.messages().len());
    let witness = async {
        while rig.simulator.messages().len() == unanswered {
            tokio::task::yield_now().await;
        }
        let taken = rig.simulator.messages().remove(0);
        let write = store::send_proof::write(part.id, &taken.sid);
        assert_eq!(rig.ports.store.commit(&[write]).await.unwrap(), Commit::Applied);
    };
    let (decision, ()) = tokio::join!(deliverer.handle(&mut waiting), witness);
    assert_eq!(said(&decision), "accepted");
    assert_eq!(rig.accepted(), ["hi"]);
}
