//! Parts on their way out through a simulated IntelePeer, which cannot be asked what it took.

use std::time::Duration;

use message::failure::FailureKind;
use providers::UnknownOutcome;
use providers::intelepeer::IntelepeerAuth;
use simulator::intelepeer::TokenForm;
use simulator::{Fault, Route, SimulatorConfig};

use crate::rig::{CUSTOMER, INTELEPEER_NUMBER, Rig, replay, said, to, with_picture};

fn token() -> IntelepeerAuth {
    IntelepeerAuth::Token(SimulatorConfig::demo().intelepeer.token.into())
}

fn login() -> IntelepeerAuth {
    let account = SimulatorConfig::demo().intelepeer;
    IntelepeerAuth::Login { username: account.username, password: account.password.into() }
}

async fn rig(auth: IntelepeerAuth) -> Rig {
    Rig::intelepeer(SimulatorConfig::demo(), auth, UnknownOutcome::Resend).await
}

fn statuses(rig: &Rig, route: Route) -> Vec<Option<u16>> {
    rig.calls(route).iter().map(|call| call.status).collect()
}

#[tokio::test]
async fn a_part_is_sent_once_and_bears_its_id() {
    let rig = rig(token()).await;
    let part = with_picture(rig.part(0, "hi"), "https://pictures.example/1.png");
    assert_eq!(rig.deliver(&mut part.clone()).await, "accepted");
    assert_eq!(rig.deliver(&mut part.clone()).await, "duplicate");
    let [sent] = &rig.simulator.messages()[..] else { panic!("not one text") };
    assert_eq!((sent.from.as_str(), sent.to.as_str(), sent.body.as_str()), (INTELEPEER_NUMBER, CUSTOMER, "hi"));
    assert_eq!(sent.guid, Some(part.id.to_string()));
    assert_eq!(sent.media, ["https://pictures.example/1.png"]);
}

#[tokio::test]
async fn one_login_serves_many_parts_and_an_expired_token_is_renewed_once() {
    let rig = rig(login()).await;
    let deliverer = rig.deliverer();
    for index in 0..3 {
        assert_eq!(said(&deliverer.handle(&mut rig.part(index, "hi")).await), "accepted");
    }
    assert_eq!(statuses(&rig, Route::IntelepeerLogin), [Some(200)]);
    rig.simulator.expire_intelepeer_tokens();
    let mut part = rig.part(3, "hi");
    assert_eq!(said(&deliverer.handle(&mut part).await), "accepted");
    assert_eq!(statuses(&rig, Route::IntelepeerLogin), [Some(200); 2]);
    assert_eq!(statuses(&rig, Route::IntelepeerSend)[3..], [Some(401), Some(202)]);
    assert_eq!(part.attempts, [], "a renewed token is no failed attempt");
}

#[tokio::test]
async fn the_bare_form_of_the_token_is_tried_once_and_remembered() {
    for (auth, logins) in [(token(), 0), (login(), 1)] {
        let mut config = SimulatorConfig::demo();
        config.intelepeer.accepts = TokenForm::Bare;
        let rig = Rig::intelepeer(config, auth, UnknownOutcome::Resend).await;
        let deliverer = rig.deliverer();
        for index in 0..2 {
            assert_eq!(said(&deliverer.handle(&mut rig.part(index, "hi")).await), "accepted");
        }
        assert_eq!(statuses(&rig, Route::IntelepeerSend), [Some(401), Some(202), Some(202)]);
        assert_eq!(rig.calls(Route::IntelepeerLogin).len(), logins);
    }
}

#[tokio::test]
async fn wrong_credentials_are_set_aside_for_the_operator() {
    let wrong = IntelepeerAuth::Login { username: "demo".to_owned(), password: "wrong".into() };
    for auth in [wrong, IntelepeerAuth::Token("wrong".into()), IntelepeerAuth::Token("not\na header".into())] {
        let rig = rig(auth).await;
        assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, "dead: misconfigured");
        assert_eq!(rig.accepted(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_login_that_fails_for_a_moment_is_tried_again() {
    let rig = rig(login()).await;
    for fault in [Fault::DropBefore, Fault::DropAfter, Fault::status(503), Fault::wrong_json()] {
        rig.simulator.fail(Route::IntelepeerLogin, fault);
    }
    let mut part = rig.part(0, "hi");
    assert_eq!(rig.deliver(&mut part).await, "accepted");
    assert_eq!(part.attempts.len(), 4);
    assert!(part.attempts.iter().all(|attempt| attempt.kind == FailureKind::Transient), "{:?}", part.attempts);
    assert_eq!(rig.accepted(), ["hi"]);
}

#[tokio::test]
async fn an_unknown_outcome_is_resent_or_set_aside_as_configured() {
    for fault in [Fault::DropAfter, Fault::wrong_json()] {
        for (policy, decision, texts) in
            [(UnknownOutcome::Resend, "accepted", 2), (UnknownOutcome::DeadLetter, "dead: unknown_outcome", 1)]
        {
            let rig = Rig::intelepeer(SimulatorConfig::demo(), token(), policy).await;
            rig.simulator.fail(Route::IntelepeerSend, fault.clone());
            assert_eq!(rig.deliver(&mut rig.part(0, "hi")).await, decision, "{fault:?}");
            assert_eq!(rig.accepted().len(), texts, "{fault:?} {policy:?}");
        }
    }
}

#[tokio::test]
async fn g3_a_person_s_replay_sends_what_was_set_aside_as_unknown_once_and_a_redelivery_never_does() {
    let rig = Rig::intelepeer(SimulatorConfig::demo(), token(), UnknownOutcome::DeadLetter).await;
    rig.simulator.fail(Route::IntelepeerSend, Fault::DropBefore);
    rig.simulator.fail(Route::IntelepeerSend, Fault::DropBefore);
    let mut part = rig.part(0, "hi");
    assert_eq!(rig.deliver(&mut part).await, "dead: unknown_outcome");
    assert_eq!(rig.deliver(&mut part.clone()).await, "dead: unknown_outcome");
    replay(&mut part);
    assert_eq!(rig.deliver(&mut part).await, "dead: unknown_outcome", "the second call's outcome is unknown too");
    assert_eq!(rig.deliver(&mut part.clone()).await, "dead: unknown_outcome", "a replay that is redelivered");
    assert_eq!(rig.calls(Route::IntelepeerSend).len(), 2);
    replay(&mut part);
    assert_eq!(rig.deliver(&mut part).await, "accepted");
    replay(&mut part);
    assert_eq!(rig.deliver(&mut part).await, "duplicate");
    assert_eq!(rig.accepted(), ["hi"]);
}

/// Two senders may have a part at the same time, while its partition passes from one to the other.
#[tokio::test]
async fn a_part_that_another_sender_is_sending_just_now_is_not_sent_beside_it() {
    for policy in [UnknownOutcome::Resend, UnknownOutcome::DeadLetter] {
        let mut rig = Rig::intelepeer(SimulatorConfig::demo(), token(), policy).await;
        rig.pace.quiet = Duration::from_secs(1);
        rig.simulator.fail(Route::IntelepeerSend, Fault::delay(Duration::from_millis(300)));
        let (mut first, mut second) = (rig.part(0, "hi"), rig.part(0, "hi"));
        let (first, second) = tokio::join!(rig.deliver(&mut first), async {
            while rig.accepted().is_empty() {
                tokio::task::yield_now().await;
            }
            rig.deliver(&mut second).await
        });
        assert_eq!((first.as_str(), second.as_str()), ("accepted", "duplicate"));
        assert_eq!(rig.accepted(), ["hi"], "{policy:?}");
    }
}

#[tokio::test]
async fn refusals_are_certain_and_told_apart() {
    let mut config = SimulatorConfig::demo();
    config.intelepeer.international = false;
    let rig = Rig::intelepeer(config, token(), UnknownOutcome::DeadLetter).await;
    let cases = [(400, "dead: permanent"), (404, "dead: misconfigured"), (429, "accepted")];
    for (index, (status, decision)) in (0..).zip(cases) {
        rig.simulator.fail(Route::IntelepeerSend, Fault::status(status));
        assert_eq!(rig.deliver(&mut rig.part(index, "hi")).await, decision, "{status}");
    }
    assert_eq!(rig.deliver(&mut to(rig.part(3, "hi"), "+4915112345678")).await, "dead: permanent");
}
