//! The wall clock is set, forward and back by hours, while parts are on their way out.

use std::time::Duration;

use simulator::{Fault, Route, TwilioQuirks};

use crate::rig::{Rig, said};

const HOURS: i64 = 6 * 3600;

#[tokio::test]
async fn g3_a_clock_set_during_a_call_of_unknown_outcome_makes_no_second_text() {
    for set in [HOURS, -HOURS] {
        for fault in [Fault::DropAfter, Fault::DropBefore, Fault::status(500)] {
            let rig = Rig::twilio().await;
            rig.simulator.fail(Route::TwilioSend, fault.clone());
            let deliverer = rig.deliverer();
            let mut part = rig.part(0, "hi");
            let setting = async {
                rig.simulator.wait_for(|simulator| (!simulator.requests().is_empty()).then_some(())).await.unwrap();
                rig.skip_s(set);
            };
            let started = tokio::time::Instant::now();
            let (decision, ()) = tokio::join!(deliverer.handle(&mut part), setting);
            assert_eq!(said(&decision), "accepted", "{set} {fault:?}");
            assert_eq!(rig.accepted(), ["hi"], "{set} {fault:?}");
            let was_sent_again = rig.calls(Route::TwilioSend).len() == 2;
            assert!(!was_sent_again || started.elapsed() >= rig.pace.quiet, "{set} {fault:?} {:?}", started.elapsed());
            assert!(started.elapsed() < Duration::from_secs(3), "{set} {fault:?}: {:?}", started.elapsed());
        }
    }
}

#[tokio::test]
async fn g3_a_text_sent_while_the_clock_was_wrong_is_found() {
    // The clock was hours ahead, or behind, when the call was made, and the process died; then it is right, or is not.
    for (during, after) in [(HOURS, -HOURS), (-HOURS, HOURS), (HOURS, 0), (-HOURS, 0)] {
        let rig = Rig::twilio().await;
        rig.skip_s(during);
        rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
        rig.simulator.fail(Route::TwilioList, Fault::delay(Duration::from_secs(30)));
        let deliverer = rig.deliverer();
        let (mut part, mut lost) = (rig.part(0, "hi"), rig.part(0, "hi"));
        let asked = rig.simulator.wait_for(|simulator| {
            simulator.requests().iter().any(|call| call.route == Some(Route::TwilioList)).then_some(())
        });
        tokio::select! {
            decision = deliverer.handle(&mut lost) => panic!("{decision:?}"),
            asked = asked => asked.unwrap(),
        }
        rig.simulator.clear_faults();
        rig.skip_s(after);
        assert_eq!(rig.deliver(&mut part).await, "accepted", "{during} {after}");
        assert_eq!(rig.calls(Route::TwilioSend).len(), 1, "{during} {after}");
    }
}

#[tokio::test]
async fn g3_b5_two_hosts_whose_clocks_are_minutes_apart_make_one_text_of_a_call_that_one_died_in() {
    for apart_s in [25, -25, 600, -600] {
        for fault in [Fault::DropAfter, Fault::status(500)] {
            let mut rig = Rig::twilio().await;
            rig.pace.quiet = Duration::from_millis(1500);
            rig.simulator.set_twilio_quirks(TwilioQuirks { list_lag_ms: 700, ..TwilioQuirks::default() });
            rig.simulator.fail(Route::TwilioSend, fault.clone());
            let (mut part, mut lost) = (rig.part(0, "hi"), rig.part(0, "hi"));
            let called = rig.simulator.wait_for(|simulator| {
                simulator.requests().iter().any(|call| call.route == Some(Route::TwilioSend)).then_some(())
            });
            let (elsewhere, started) = (rig.deliverer_elsewhere(apart_s), tokio::time::Instant::now());
            tokio::select! {
                decision = elsewhere.handle(&mut lost) => panic!("{decision:?}"),
                called = called => called.unwrap(),
            }
            assert_eq!(rig.deliver(&mut part).await, "accepted", "{apart_s} {fault:?}");
            assert_eq!(rig.accepted(), ["hi"], "{apart_s} {fault:?}");
            let was_sent_again = rig.calls(Route::TwilioSend).len() == 2;
            assert!(!was_sent_again || started.elapsed() >= rig.pace.quiet, "{apart_s}: {:?}", started.elapsed());
        }
    }
}

#[tokio::test]
async fn a_clock_set_back_prolongs_no_pause_beyond_its_length() {
    let rig = Rig::twilio().await;
    rig.simulator.fail(Route::TwilioSend, Fault::retry_after(429, 2));
    let deliverer = rig.deliverer();
    let mut part = rig.part(0, "hi");
    let setting = async {
        rig.simulator.wait_for(|simulator| (!simulator.requests().is_empty()).then_some(())).await.unwrap();
        rig.skip_s(-HOURS);
    };
    let started = tokio::time::Instant::now();
    let (first, ()) = tokio::join!(deliverer.handle(&mut part), setting);
    assert_eq!(said(&first), "accepted");
    assert!((2..5).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[tokio::test]
async fn g4_parked_parts_keep_their_order_whatever_the_clock_is_set_to() {
    for set in [HOURS, -HOURS] {
        let rig = Rig::twilio().await;
        rig.simulator.fail(Route::TwilioSend, Fault::retry_after(429, 600));
        for index in [0, 1] {
            assert_eq!(rig.deliver(&mut rig.part(index, &format!("part {index}"))).await, "retry");
        }
        rig.skip_s(set);
        assert_eq!(rig.deliver(&mut rig.part(1, "part 1")).await, "retry", "{set}: the one ahead has not come back");
        rig.skip_s(601);
        // The first part comes back when the broker delivers it, and a second time if the sender must follow a changed
        // clock first.
        let said = rig.deliver(&mut rig.part(0, "part 0")).await;
        if said == "retry" {
            rig.skip_s(601);
            assert_eq!(rig.deliver(&mut rig.part(0, "part 0")).await, "accepted", "{set}");
        }
        rig.skip_s(601);
        assert_eq!(rig.deliver(&mut rig.part(1, "part 1")).await, "accepted", "{set}");
        assert_eq!(rig.accepted(), ["part 0", "part 1"], "{set}");
    }
}
