//! Twilio's list shows altered words, lags, or holds texts of other senders, just when it is asked for the outcome of a
//! send.

use std::time::Duration;

use message::Envelope;
use providers::{ProviderSettings, UnknownOutcome};
use simulator::{Fault, Number, Route, SimulatorConfig, TwilioQuirks};
use store::Commit;

use crate::rig::{CUSTOMER, Rig, TWILIO_NUMBER, said};

const SERVICE: &str = "MG00000000000000000000000000000001";
const OTHER_NUMBER: &str = "+12125550101";

fn through_service(rig: &mut Rig) {
    let ProviderSettings::Twilio(settings) = &mut rig.integration.provider else { panic!("not Twilio") };
    settings.messaging_service_sid = Some(SERVICE.to_owned());
}

/// The same part in the customer's conversation with another number of ours.
fn of_other_number(mut part: Envelope) -> Envelope {
    part.conversation.ours = message::Address::parse(OTHER_NUMBER).unwrap();
    part.id = part.id.derive("elsewhere");
    part
}

/// Records a receipt that names the part, as the worker does.
async fn witness(rig: &Rig, part: &Envelope) {
    let sid = rig.simulator.messages().last().unwrap().sid.clone();
    let written = rig.ports.store.commit(&[store::send_proof::write(part.id, &sid)]).await.unwrap();
    assert_eq!(written, Commit::Applied);
}

#[tokio::test]
async fn g3_b4_words_that_twilio_is_known_to_alter_are_recognised() {
    let alterations = [
        TwilioQuirks { trial: true, ..TwilioQuirks::default() },
        TwilioQuirks { smart_encoding: true, ..TwilioQuirks::default() },
        TwilioQuirks { trial: true, smart_encoding: true, ..TwilioQuirks::default() },
    ];
    for quirks in alterations {
        let rig = Rig::twilio().await;
        rig.simulator.set_twilio_quirks(quirks.clone());
        rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
        assert_eq!(rig.deliver(&mut rig.part(0, "We’re open…\u{a0}“always” – 9½")).await, "accepted", "{quirks:?}");
        assert_eq!(rig.accepted().len(), 1, "{quirks:?}");
    }
}

#[tokio::test]
async fn g3_b4_words_that_are_hidden_wait_for_the_receipt() {
    for redacted in ["", "***"] {
        let mut rig = Rig::twilio().await;
        rig.pace.in_lane = Duration::from_secs(3600);
        rig.simulator
            .set_twilio_quirks(TwilioQuirks { redacted: Some(redacted.to_owned()), ..TwilioQuirks::default() });
        rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
        let mut part = rig.part(0, "hi");
        let deliverer = rig.deliverer();
        let looked_twice = async {
            let looks = |sim: &simulator::Simulator| {
                sim.requests().iter().filter(|r| r.route == Some(Route::TwilioList)).count()
            };
            rig.simulator.wait_for(|sim| (looks(sim) >= 2).then_some(())).await.unwrap();
        };
        tokio::select! {
            decision = deliverer.handle(&mut part) => panic!("{decision:?}"),
            () = looked_twice => {}
        }
        witness(&rig, &part).await;
        assert_eq!(said(&deliverer.handle(&mut part).await), "accepted", "{redacted:?}");
        assert_eq!(rig.accepted(), ["hi"], "{redacted:?}");
    }
}

#[tokio::test]
async fn b4_a_doubt_that_no_receipt_ends_is_decided_as_configured_for_twilio_too() {
    for (policy, decision, texts) in
        [(UnknownOutcome::Resend, "accepted", 2), (UnknownOutcome::DeadLetter, "dead: unknown_outcome", 1)]
    {
        let mut rig = Rig::twilio().await;
        rig.pace.doubt = Duration::from_millis(400);
        rig.integration.options.unknown_outcome = policy;
        rig.simulator.set_twilio_quirks(TwilioQuirks { redacted: Some(String::new()), ..TwilioQuirks::default() });
        rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
        let started = tokio::time::Instant::now();
        assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, decision);
        assert!(started.elapsed() >= rig.pace.doubt, "the receipt was not waited for");
        assert_eq!(rig.accepted().len(), texts, "{policy:?}");
    }
}

#[tokio::test]
async fn b4_a_long_doubt_is_waited_out_at_the_broker_and_not_in_the_lane() {
    let mut rig = Rig::twilio().await;
    rig.pace.in_lane = Duration::from_millis(500);
    rig.simulator.set_twilio_quirks(TwilioQuirks { redacted: Some(String::new()), ..TwilioQuirks::default() });
    rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "retry");
    assert_eq!(rig.deliver(&mut rig.part(1, "ho")).await, "retry", "what comes after it waits behind it");
    assert_eq!(rig.accepted(), ["hi"]);
}

#[tokio::test]
async fn b4_redacted_texts_that_are_known_to_be_other_parts_raise_no_doubt() {
    let rig = Rig::twilio().await;
    rig.simulator.set_twilio_quirks(TwilioQuirks { redacted: Some("***".to_owned()), ..TwilioQuirks::default() });
    assert_eq!(rig.deliver(&mut rig.part(0, "one")).await, "accepted");
    rig.simulator.fail(Route::TwilioSend, Fault::DropBefore);
    assert_eq!(rig.deliver(&mut rig.part(1, "two")).await, "accepted");
    assert_eq!(rig.accepted(), ["one", "two"]);
}

#[tokio::test]
async fn g2_b4_a_text_of_another_conversation_through_the_same_service_is_not_taken_for_this_one() {
    let mut rig = Rig::twilio().await;
    through_service(&mut rig);
    for redacted in [None, Some("***".to_owned())] {
        rig.simulator.set_twilio_quirks(TwilioQuirks { redacted, ..TwilioQuirks::default() });
        let before = rig.accepted().len();
        let mut elsewhere = of_other_number(rig.part(u16::try_from(before).unwrap(), "Welcome!"));
        assert_eq!(rig.deliver(&mut elsewhere).await, "accepted");
        rig.simulator.fail(Route::TwilioSend, Fault::DropBefore);
        assert_eq!(rig.deliver(&mut rig.part(u16::try_from(before).unwrap(), "Welcome!")).await, "accepted");
        assert_eq!(rig.accepted().len(), before + 2, "a text was lost silently");
    }
}

#[tokio::test]
async fn g3_b4_two_equal_texts_of_two_conversations_in_doubt_are_shared_out() {
    let mut rig = Rig::twilio().await;
    through_service(&mut rig);
    rig.simulator.fail(Route::TwilioSend, Fault::DropAfter.times(2));
    let [mut one, mut other] = [rig.part(0, "Welcome!"), of_other_number(rig.part(0, "Welcome!"))];
    let [here, there] = [rig.deliverer(), rig.deliverer()];
    let (first, second) = tokio::join!(here.handle(&mut one), there.handle(&mut other));
    assert_eq!((said(&first).as_str(), said(&second).as_str()), ("accepted", "accepted"));
    assert_eq!(rig.accepted(), ["Welcome!", "Welcome!"]);
}

#[tokio::test]
async fn b4_texts_of_others_with_other_ends_words_or_times_are_not_this_one() {
    let mut config = SimulatorConfig::demo();
    config.twilio.numbers.push(Number::new(OTHER_NUMBER));
    let rig = Rig::twilio_with(config).await;
    for (from, words) in [(OTHER_NUMBER, "hi"), (TWILIO_NUMBER, "ho")] {
        rig.send_beside(&[("From", from), ("To", CUSTOMER), ("Body", words)]).await;
    }
    rig.send_beside(&[("MessagingServiceSid", SERVICE), ("To", "+14155550102"), ("Body", "hi")]).await;
    rig.simulator.fail(Route::TwilioSend, Fault::DropBefore);
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "accepted");
    assert_eq!(rig.calls(Route::TwilioSend).len(), 3 + 2);
}

#[tokio::test]
async fn g3_t4_a_receipt_of_a_part_that_is_not_listed_yet_makes_no_second_text() {
    let mut rig = Rig::twilio().await;
    through_service(&mut rig);
    rig.pace.quiet = Duration::from_secs(2);
    rig.simulator.set_twilio_quirks(TwilioQuirks { list_lag_ms: 3_600_000, ..TwilioQuirks::default() });
    rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
    let mut part = rig.part(0, "hi");
    let (named, deliverer) = (part.clone(), rig.deliverer());
    let receipt = async {
        rig.simulator.wait_for(|simulator| (!simulator.messages().is_empty()).then_some(())).await.unwrap();
        witness(&rig, &named).await;
    };
    let (decision, ()) = tokio::join!(deliverer.handle(&mut part), receipt);
    assert_eq!(said(&decision), "accepted");
    assert_eq!(rig.accepted(), ["hi"]);
}

#[tokio::test]
async fn g3_b4_a_list_that_lags_is_looked_at_again_before_its_silence_is_believed() {
    let mut rig = Rig::twilio().await;
    rig.pace.quiet = Duration::from_secs(2);
    rig.simulator.set_twilio_quirks(TwilioQuirks { list_lag_ms: 1000, ..TwilioQuirks::default() });
    rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "accepted");
    assert_eq!(rig.accepted(), ["hi"]);
    assert!(rig.calls(Route::TwilioList).len() >= 2);
}

#[tokio::test]
async fn b4_the_whole_look_has_one_deadline_and_ends_at_texts_of_before() {
    let mut rig = Rig::twilio().await;
    rig.pace.call = Duration::from_millis(300);
    rig.pace.in_lane = Duration::ZERO;
    rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
    rig.simulator.fail(Route::TwilioList, Fault::DripMs(50));
    let started = tokio::time::Instant::now();
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "retry");
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "retry");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn t11_an_api_key_sends_and_asks_and_the_auth_token_only_verifies() {
    let mut rig = Rig::twilio().await;
    let key = SimulatorConfig::demo().twilio.api_keys.remove(0);
    let ProviderSettings::Twilio(settings) = &mut rig.integration.provider else { panic!("not Twilio") };
    settings.auth_tokens = vec!["only-for-webhooks".into()];
    settings.api_key = Some(providers::twilio::TwilioApiKey { sid: key.sid, secret: key.secret.into() });
    assert!(!format!("{settings:?}").contains("simulated-twilio-key-secret"));
    rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
    assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "accepted");
    assert_eq!((rig.accepted().len(), rig.calls(Route::TwilioList).len()), (1, 1));
}

#[tokio::test]
async fn t15_a_callback_that_twilio_refuses_costs_the_receipts_and_not_the_reply() {
    let rig = Rig::twilio().await;
    rig.simulator.set_twilio_quirks(TwilioQuirks { refuse_callbacks: true, ..TwilioQuirks::default() });
    let deliverer = rig.deliverer();
    for index in 0..3 {
        let mut part = rig.part(index, "hi");
        assert_eq!(said(&deliverer.handle(&mut part).await), "accepted");
        assert_eq!(part.attempts, [], "it is no failed attempt");
    }
    assert_eq!(rig.accepted(), ["hi"; 3]);
    let calls = rig.calls(Route::TwilioSend);
    let with_callback = calls.iter().filter(|call| call.form_field("StatusCallback").is_some()).count();
    assert_eq!((calls.len(), with_callback), (4, 1), "what was refused is not offered with each text");
}

#[tokio::test]
async fn t15_without_receipts_a_doubt_does_not_wait_for_one() {
    let mut rig = Rig::twilio().await;
    rig.pace.doubt = Duration::from_secs(3600);
    rig.integration.options.unknown_outcome = UnknownOutcome::DeadLetter;
    let quirks = TwilioQuirks { refuse_callbacks: true, redacted: Some(String::new()), ..TwilioQuirks::default() };
    rig.simulator.set_twilio_quirks(quirks);
    let deliverer = rig.deliverer();
    assert_eq!(said(&deliverer.handle(&mut rig.part(0, "one")).await), "accepted");
    rig.simulator.fail(Route::TwilioSend, Fault::DropAfter);
    assert_eq!(said(&deliverer.handle(&mut rig.part(1, "two")).await), "dead: unknown_outcome");
    assert_eq!(rig.accepted(), ["one", "two"]);
}
