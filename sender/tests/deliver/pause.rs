//! A provider that throttles pauses the whole number, for every sender, until a stored time.

use std::time::Duration;

use message::failure::{Failure, FailureKind};
use simulator::{Fault, Route};
use work::Settlement;

use crate::rig::{Rig, said, to};

const OTHER: &str = "+14155550102";

#[tokio::test]
async fn g8_a_throttled_number_is_held_by_every_sender() {
    let rig = Rig::twilio().await;
    let (one, another) = (rig.deliverer(), rig.deliverer());
    rig.simulator.fail(Route::TwilioSend, Fault::retry_after(429, 3600));
    assert_eq!(said(&one.handle(&mut rig.part(0, "hi")).await), "retry");
    let held = another.handle(&mut to(rig.part(1, "ho"), OTHER)).await;
    let Settlement::RetryAfter(delay) = held.settlement else { panic!("{held:?}") };
    assert!((3590..=3600).contains(&delay.as_secs()), "{delay:?}");
    assert_eq!(rig.calls(Route::TwilioSend).len(), 1, "nobody else called");
}

#[tokio::test]
async fn g8_a_restart_forgets_no_pause_and_a_hint_is_never_shortened() {
    let rig = Rig::twilio().await;
    rig.simulator.fail(Route::TwilioSend, Fault::retry_after(429, 3600));
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "retry");
    rig.skip_s(3590);
    assert_eq!(rig.deliver(&mut to(rig.part(1, "ho"), OTHER)).await, "retry");
    assert_eq!(rig.calls(Route::TwilioSend).len(), 1);
    rig.skip_s(10);
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "accepted");
    rig.skip_s(1);
    assert_eq!(rig.deliver(&mut to(rig.part(1, "ho"), OTHER)).await, "accepted");
}

#[tokio::test]
async fn g8_a_pause_is_noticed_by_who_waits_for_the_rate() {
    let mut rig = Rig::twilio().await;
    // The second text waits for two seconds.
    rig.integration.options.rate_per_second = 1.0 / 62.0;
    let (waiting, throttled) = (rig.deliverer(), rig.deliverer());
    assert_eq!(said(&waiting.handle(&mut rig.part(0, "hi")).await), "accepted");
    let mut second = rig.part(1, "ho");
    let throttle = async {
        rig.simulator.fail(Route::TwilioSend, Fault::retry_after(429, 600));
        throttled.handle(&mut to(rig.part(2, "hey"), OTHER)).await
    };
    let (second, third) = tokio::join!(waiting.handle(&mut second), throttle);
    assert_eq!((said(&second), said(&third)), ("retry".to_owned(), "retry".to_owned()));
    assert_eq!(rig.accepted(), ["hi"]);
}

#[tokio::test]
async fn without_a_hint_the_number_waits_a_little_longer_each_time() {
    let rig = Rig::twilio().await;
    rig.simulator.fail(Route::TwilioSend, Fault::status(429).times(2));
    let mut part = rig.part(0, "hi");
    // Earlier throttled tries do not count: the number waits, not the part.
    for _ in 0..20 {
        part.record_attempt(rig.ports.clock.now(), &Failure::new(FailureKind::Throttled, "before"));
    }
    assert_eq!(rig.deliver(&mut part).await, "accepted");
    let at: Vec<_> = rig.calls(Route::TwilioSend).iter().map(|call| call.at).collect();
    let [first, second, third] = at[..] else { panic!("not three calls") };
    let gaps = [second.duration_since(first), third.duration_since(second)].map(|gap| gap.as_secs_f64());
    assert!((1.0..2.0).contains(&gaps[0]) && (2.0..3.5).contains(&gaps[1]), "{gaps:?}");
    assert_eq!(part.attempts.len(), 22);
}

#[tokio::test]
async fn a_part_that_is_only_ever_throttled_is_not_given_up_before_it_expires() {
    let mut rig = Rig::twilio().await;
    rig.pace.in_lane = Duration::ZERO;
    rig.simulator.fail(Route::TwilioSend, Fault::status(429).always());
    let mut part = rig.part(0, "hi");
    for _ in 0..30 {
        assert_eq!(rig.deliver(&mut part).await, "retry");
        rig.skip_s(61);
    }
    assert_eq!(rig.calls(Route::TwilioSend).len(), 30);
    part.accepted_at -= rig.integration.options.reply_max_age;
    assert_eq!(rig.deliver(&mut part).await, "dead: expired");
}

fn refusal(code: u32) -> Fault {
    Fault::status_with_body(400, format!(r#"{{"code":{code},"message":"slow down","status":400}}"#))
}

#[tokio::test]
async fn t5_a_throttled_pair_of_numbers_holds_that_pair_alone() {
    let rig = Rig::twilio().await;
    rig.simulator.fail(Route::TwilioSend, refusal(14107));
    let mut deliverer = rig.deliverer();
    for index in [1, 2] {
        assert_eq!(said(&deliverer.handle(&mut rig.part(0, "hi")).await), "retry", "the pair waits for half a minute");
        assert_eq!(said(&deliverer.handle(&mut to(rig.part(index, "ho"), OTHER)).await), "accepted", "another");
        deliverer = rig.deliverer();
    }
    rig.skip_s(30);
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "accepted");
}

#[tokio::test]
async fn t5_a_throttled_account_holds_all_its_numbers_and_integrations_for_an_hour() {
    let mut rig = Rig::twilio().await;
    rig.simulator.fail(Route::TwilioSend, refusal(63038));
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "retry");
    rig.integration.id = message::IntegrationId::parse("sales").unwrap();
    let held = rig.deliverer().handle(&mut to(rig.part(1, "ho"), OTHER)).await;
    let Settlement::RetryAfter(delay) = held.settlement else { panic!("{held:?}") };
    assert!((3590..=3600).contains(&delay.as_secs()), "{delay:?}");
    assert_eq!(rig.calls(Route::TwilioSend).len(), 1, "nobody asks again");
    rig.skip_s(3600);
    assert_eq!(rig.deliver(&mut to(rig.part(1, "ho"), OTHER)).await, "accepted");
}

#[tokio::test]
async fn b3_what_comes_back_early_is_no_attempt_and_asks_nobody() {
    let mut rig = Rig::twilio().await;
    rig.pace.in_lane = Duration::ZERO;
    rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
    rig.simulator.fail(Route::TwilioList, Fault::retry_after(503, 600));
    let mut part = rig.part(0, "hi");
    assert_eq!(rig.deliver(&mut part).await, "retry");
    rig.skip_s(1);
    assert_eq!(rig.deliver(&mut part).await, "retry");
    let (attempts, calls) = (part.attempts.len(), rig.simulator.requests().len());
    for _ in 0..20 {
        rig.skip_s(5);
        assert_eq!(rig.deliver(&mut part).await, "retry", "its next try is ten minutes away");
    }
    assert_eq!((part.attempts.len(), rig.simulator.requests().len()), (attempts, calls));
    rig.skip_s(600);
    assert_eq!(rig.deliver(&mut part).await, "accepted");
    assert_eq!(rig.accepted(), ["hi"]);
}
