//! Parts on their way out through a simulated Twilio that fails in every way it can.

use std::time::Duration;

use message::IntegrationId;
use message::failure::FailureKind;
use providers::ProviderSettings;
use simulator::{Fault, Route};
use work::Settlement;

use crate::rig::{CUSTOMER, Rig, TWILIO_NUMBER, replay, said, to, with_picture};

#[tokio::test]
async fn a_part_is_sent_once_however_often_it_is_delivered() {
    let rig = Rig::twilio().await;
    let part = rig.part(0, "Grüße 👍🏽 & more");
    assert_eq!(rig.deliver(&mut part.clone()).await, "accepted");
    assert_eq!(rig.deliver(&mut part.clone()).await, "duplicate");
    let [sent] = &rig.simulator.messages()[..] else { panic!("not one text") };
    assert_eq!((sent.from.as_str(), sent.to.as_str()), (TWILIO_NUMBER, CUSTOMER));
    assert_eq!(sent.body, "Grüße 👍🏽 & more");
    let callback = format!("https://sms.example.com/webhooks/support/status?part={}", part.id);
    assert_eq!(sent.status_callback.as_deref(), Some(callback.as_str()));
}

#[tokio::test]
async fn pictures_go_along_with_or_without_words() {
    let rig = Rig::twilio().await;
    for (index, words) in [(0, "look"), (1, "")] {
        let mut part = with_picture(rig.part(index, words), "https://pictures.example/1.png");
        part = with_picture(part, "https://pictures.example/2.png");
        assert_eq!(rig.deliver(&mut part).await, "accepted");
    }
    for sent in rig.simulator.messages() {
        assert_eq!(sent.media, ["https://pictures.example/1.png", "https://pictures.example/2.png"]);
    }
}

#[tokio::test]
async fn a_messaging_service_takes_the_place_of_the_number() {
    let mut rig = Rig::twilio().await;
    let ProviderSettings::Twilio(settings) = &mut rig.integration.provider else { panic!("not Twilio") };
    settings.messaging_service_sid = Some("MG00000000000000000000000000000001".to_owned());
    rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "accepted");
    assert_eq!(rig.accepted(), ["hi"]);
    assert_eq!(rig.calls(Route::TwilioSend)[0].form_field("From"), None);
}

#[tokio::test]
async fn a_text_is_found_although_the_clock_of_ingress_is_ahead_of_ours() {
    let rig = Rig::twilio().await;
    rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
    let mut part = rig.part(0, "hi");
    part.accepted_at += Duration::from_secs(600);
    assert_eq!(rig.deliver(&mut part).await, "accepted");
    assert_eq!(rig.accepted(), ["hi"]);
}

#[tokio::test]
async fn a_short_hint_is_waited_out_before_the_next_try() {
    let rig = Rig::twilio().await;
    rig.simulator.fail(Route::TwilioSend, Fault::retry_after(429, 1));
    let mut part = rig.part(0, "hi");
    assert_eq!(rig.deliver(&mut part).await, "accepted");
    let [refused, taken] = &rig.calls(Route::TwilioSend)[..] else { panic!("not two calls") };
    assert!(taken.at.duration_since(refused.at).as_secs_f64() >= 1.0, "{} {}", refused.at, taken.at);
    assert_eq!(part.attempts.len(), 1);
    assert_eq!(part.attempts[0].kind, FailureKind::Throttled);
}

#[tokio::test]
async fn a_long_hint_parks_the_part_and_holds_the_number_back() {
    let rig = Rig::twilio().await;
    rig.simulator.fail(Route::TwilioSend, Fault::retry_after(429, 600));
    let deliverer = rig.deliverer();
    let decision = deliverer.handle(&mut rig.part(0, "hi")).await;
    let Settlement::RetryAfter(delay) = decision.settlement else { panic!("{decision:?}") };
    assert!(delay >= Duration::from_secs(600), "{delay:?}");
    let other = deliverer.handle(&mut to(rig.part(1, "ho"), "+14155550102")).await;
    assert_eq!(said(&other), "retry");
    assert_eq!(rig.calls(Route::TwilioSend).len(), 1);
    rig.skip_s(590);
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "retry", "a hint is never shortened");
    rig.skip_s(10);
    // A refused send leaves no doubt behind: the provider is not asked before the part is sent again.
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "accepted");
    assert_eq!(rig.calls(Route::TwilioList).len(), 0);
}

#[tokio::test]
async fn later_parts_of_a_conversation_wait_behind_a_parked_one() {
    let rig = Rig::twilio().await;
    rig.simulator.fail(Route::TwilioSend, Fault::retry_after(429, 600));
    for index in [0, 1, 2] {
        assert_eq!(rig.deliver(&mut rig.part(index, &format!("part {index}"))).await, "retry");
    }
    assert_eq!(rig.calls(Route::TwilioSend).len(), 1, "only the first was tried");
    rig.skip_s(601);
    assert_eq!(rig.deliver(&mut rig.part(2, "part 2")).await, "retry", "it came back too early");
    assert_eq!(rig.deliver(&mut to(rig.part(3, "elsewhere"), "+14155550102")).await, "accepted");
    rig.skip_s(99);
    rig.skip_s(40);
    for index in [0, 1, 2] {
        assert_eq!(rig.deliver(&mut rig.part(index, &format!("part {index}"))).await, "accepted");
    }
    assert_eq!(rig.accepted(), ["elsewhere", "part 0", "part 1", "part 2"]);
}

#[tokio::test]
async fn a_parked_part_that_is_set_aside_lets_the_others_go() {
    let rig = Rig::twilio().await;
    rig.simulator.fail(Route::TwilioSend, Fault::retry_after(429, 600));
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "retry");
    assert_eq!(rig.deliver(&mut rig.part(1, "ho")).await, "retry");
    rig.skip_s(700);
    rig.simulator.fail(Route::TwilioSend, Fault::status(400));
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "dead: permanent");
    assert_eq!(rig.deliver(&mut rig.part(1, "ho")).await, "accepted");
}

#[tokio::test]
async fn whatever_breaks_the_answer_makes_no_second_text() {
    for fault in [Fault::DropAfter, Fault::wrong_json()] {
        let rig = Rig::twilio().await;
        rig.simulator.fail(Route::TwilioSend, fault.clone());
        let mut part = rig.part(0, "hi");
        assert_eq!(rig.deliver(&mut part).await, "accepted", "{fault:?}");
        assert_eq!(rig.accepted(), ["hi"], "{fault:?}");
        assert_eq!(rig.calls(Route::TwilioSend).len(), 1, "{fault:?}");
        assert_eq!(part.attempts[0].kind, FailureKind::Unknown, "{fault:?}");
        assert_eq!(rig.deliver(&mut part).await, "duplicate", "{fault:?}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_too_late_makes_no_second_text() {
    let mut rig = Rig::twilio().await;
    rig.pace.call = Duration::from_millis(200);
    rig.simulator.fail(Route::TwilioSend, Fault::delay(Duration::from_secs(30)));
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "accepted");
    assert_eq!(rig.accepted(), ["hi"]);
}

#[tokio::test]
async fn what_certainly_is_not_there_after_the_quiet_time_is_sent_again() {
    for fault in [Fault::DropBefore, Fault::status(500), Fault::status(502), Fault::status(503)] {
        let rig = Rig::twilio().await;
        rig.simulator.fail(Route::TwilioSend, fault.clone());
        let started = tokio::time::Instant::now();
        assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "accepted", "{fault:?}");
        assert_eq!(rig.accepted(), ["hi"], "{fault:?}");
        assert!(started.elapsed() >= rig.pace.quiet, "{fault:?}: {:?}", started.elapsed());
        assert_eq!(rig.calls(Route::TwilioSend).len(), 2, "{fault:?}");
        assert!(!rig.calls(Route::TwilioList).is_empty(), "{fault:?}");
    }
}

#[tokio::test]
async fn an_earlier_text_with_the_same_words_is_not_taken_for_this_one() {
    let rig = Rig::twilio().await;
    assert_eq!(rig.deliver(&mut rig.part(0, "yes")).await, "accepted");
    rig.simulator.fail(Route::TwilioSend, Fault::DropBefore);
    assert_eq!(rig.deliver(&mut rig.part(1, "yes")).await, "accepted");
    rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
    assert_eq!(rig.deliver(&mut rig.part(2, "yes")).await, "accepted");
    assert_eq!(rig.accepted(), ["yes"; 3]);
}

#[tokio::test]
async fn a_text_is_found_on_a_later_page() {
    let rig = Rig::twilio().await;
    let deliverer = rig.deliverer();
    rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
    rig.simulator.fail(Route::TwilioList, Fault::status(500).times(1000));
    let mut lost = rig.part(0, "the one");
    let mut found = rig.part(0, "the one");
    let stopped = async {
        rig.simulator.wait_for(|simulator| (!simulator.messages().is_empty()).then_some(())).await;
        rig.shutdown.start();
    };
    let (decision, ()) = tokio::join!(deliverer.handle(&mut lost), stopped);
    assert_eq!(said(&decision), "give back");
    rig.simulator.clear_faults();
    let mut again = rig.restarted();
    again.integration.options.rate_per_second = 1e9;
    let others = again.deliverer();
    for index in 1..=210 {
        assert_eq!(said(&others.handle(&mut again.part(index, "another")).await), "accepted");
    }
    assert_eq!(again.deliver(&mut found).await, "accepted");
    assert_eq!(again.calls(Route::TwilioSend).len(), 211);
    let pages = again.calls(Route::TwilioList);
    assert!(pages.last().unwrap().query.as_deref().unwrap().contains("PageToken"), "the first page was enough");
}

#[tokio::test]
async fn a_process_that_died_during_the_call_leaves_a_question_and_no_second_text() {
    for fault in [Fault::delay(Duration::from_secs(30)), Fault::status(503)] {
        let rig = Rig::twilio().await;
        rig.simulator.fail(Route::TwilioSend, fault);
        rig.simulator.fail(Route::TwilioList, Fault::delay(Duration::from_secs(30)));
        let deliverer = rig.deliverer();
        let mut part = rig.part(0, "hi");
        let was_called = rig.simulator.wait_for(|simulator| {
            let was_called = !simulator.messages().is_empty() || !simulator.requests().is_empty();
            was_called.then_some(())
        });
        tokio::select! {
            decision = deliverer.handle(&mut part) => panic!("{decision:?}"),
            called = was_called => called.unwrap(),
        }
        rig.simulator.clear_faults();
        assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "accepted");
        assert_eq!(rig.accepted(), ["hi"]);
    }
}

#[tokio::test]
async fn what_can_never_succeed_is_set_aside_at_once_and_may_be_replayed() {
    let rig = Rig::twilio().await;
    let cases = [("+15005550001", "21211"), ("+15005550002", "21612"), ("+15005550009", "21614")];
    for (index, (customer, code)) in (0..).zip(cases) {
        let mut part = to(rig.part(index, "hi"), customer);
        assert_eq!(rig.deliver(&mut part).await, "dead: permanent", "{customer}");
        assert_eq!(part.attempts.len(), 1);
        assert_eq!(part.attempts[0].code.as_deref(), Some(code));
    }
    assert_eq!(rig.calls(Route::TwilioList).len(), 0, "a refusal leaves no doubt");
}

#[tokio::test]
async fn g6_t7_a_customer_who_opted_out_ends_the_part_and_is_no_fault() {
    let rig = Rig::twilio().await;
    rig.simulator.opt_out(CUSTOMER, TWILIO_NUMBER, true);
    for index in [0, 1] {
        assert_eq!(rig.deliver(&mut rig.part(index, "hi")).await, "done: opted_out");
    }
    rig.simulator.opt_out(CUSTOMER, TWILIO_NUMBER, false);
    assert_eq!(rig.deliver(&mut rig.part(2, "hi")).await, "accepted", "later parts are tried");
    assert_eq!(rig.calls(Route::TwilioList).len(), 0, "a refusal leaves no doubt");
}

#[tokio::test]
async fn wrong_settings_are_set_aside_for_the_operator() {
    let mut rig = Rig::twilio().await;
    assert_eq!(rig.deliver(&mut to(rig.part(0, "hi"), "+15005550003")).await, "dead: misconfigured");
    let ProviderSettings::Twilio(settings) = &mut rig.integration.provider else { panic!("not Twilio") };
    settings.auth_tokens = vec!["wrong".into()];
    let mut part = rig.part(1, "hi");
    assert_eq!(rig.deliver(&mut part).await, "dead: misconfigured");
    assert_eq!(part.attempts[0].code.as_deref(), Some("20003"));
    let mut part = rig.part(2, "hi");
    part.integration = IntegrationId::parse("gone").unwrap();
    assert_eq!(rig.deliver(&mut part).await, "dead: unknown_integration");
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_tried_again_without_asking() {
    let mut rig = Rig::twilio().await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let ProviderSettings::Twilio(settings) = &mut rig.integration.provider else { panic!("not Twilio") };
    let somewhere = std::mem::replace(&mut settings.base_url, nowhere);
    rig.pace.in_lane = Duration::from_millis(50);
    let mut part = rig.part(0, "hi");
    assert_eq!(rig.deliver(&mut part).await, "retry");
    assert!(part.attempts.iter().all(|attempt| attempt.kind == FailureKind::Transient), "{:?}", part.attempts);
    let ProviderSettings::Twilio(settings) = &mut rig.integration.provider else { panic!("not Twilio") };
    settings.base_url = somewhere;
    // A parked part does not go before its time.
    rig.skip_s(1);
    assert_eq!(rig.deliver(&mut part).await, "accepted");
    assert_eq!(rig.calls(Route::TwilioList).len(), 0);
}

#[tokio::test]
async fn attempts_and_age_are_bounded() {
    let mut rig = Rig::twilio().await;
    rig.pace.quiet = Duration::ZERO;
    rig.simulator.fail(Route::TwilioSend, Fault::status(503).always());
    let mut part = rig.part(0, "hi");
    assert_eq!(rig.deliver(&mut part).await, "dead: exhausted");
    assert_eq!(part.attempts.len(), 24);
    rig.simulator.clear_faults();
    let mut part = rig.part(1, "hi");
    part.accepted_at -= rig.integration.options.reply_max_age + Duration::from_secs(1);
    assert_eq!(rig.deliver(&mut part).await, "dead: expired");
    assert_eq!(rig.accepted(), Vec::<String>::new());
}

#[tokio::test]
async fn g5_attempts_and_age_begin_again_with_a_replay() {
    let mut rig = Rig::twilio().await;
    rig.pace.quiet = Duration::ZERO;
    rig.simulator.fail(Route::TwilioSend, Fault::status(503).always());
    let mut part = rig.part(0, "hi");
    assert_eq!(rig.deliver(&mut part).await, "dead: exhausted");
    replay(&mut part);
    assert_eq!(rig.deliver(&mut part).await, "dead: exhausted");
    assert_eq!((part.attempts.len(), part.times_replayed()), (48, 1), "nothing of the history is lost");
    rig.simulator.clear_faults();
    part.accepted_at -= rig.integration.options.reply_max_age + Duration::from_secs(1);
    replay(&mut part);
    assert_eq!(rig.deliver(&mut part).await, "accepted");
}

#[tokio::test]
async fn g3_a_replay_of_an_unknown_outcome_asks_twilio_first() {
    let mut rig = Rig::twilio().await;
    rig.pace.quiet = Duration::ZERO;
    rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
    rig.simulator.fail(Route::TwilioList, Fault::status(401));
    let mut part = rig.part(0, "hi");
    assert_eq!(rig.deliver(&mut part).await, "dead: unknown_outcome");
    replay(&mut part);
    assert_eq!(rig.deliver(&mut part).await, "accepted");
    assert_eq!(rig.accepted(), ["hi"]);
    assert_eq!(rig.calls(Route::TwilioSend).len(), 1);
}

#[tokio::test]
async fn stopping_cuts_waiting_short_and_costs_nothing() {
    let rig = Rig::twilio().await;
    rig.simulator.fail(Route::TwilioSend, Fault::retry_after(429, 4));
    let deliverer = rig.deliverer();
    let mut part = rig.part(0, "hi");
    let stop = async {
        rig.simulator.wait_for(|simulator| (!simulator.requests().is_empty()).then_some(())).await;
        rig.shutdown.start();
    };
    let started = tokio::time::Instant::now();
    let (decision, ()) = tokio::join!(deliverer.handle(&mut part), stop);
    assert_eq!(said(&decision), "give back");
    assert!(started.elapsed() < Duration::from_secs(4));
    let rig = rig.restarted();
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "accepted");
    assert_eq!(rig.accepted(), ["hi"]);
}
