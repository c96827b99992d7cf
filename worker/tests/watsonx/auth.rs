//! Every kind of credentials, and tokens that end.

use integration::{AssistantAuth, CloudPakSecret, WatsonxLocation};
use message::failure::FailureKind;
use secrecy::ExposeSecret as _;
use secret::Secret;
use simulator::watsonx::WatsonxInstance;
use simulator::{Fault, Route, Simulator};

use crate::stand::{Customer, calls, location, settings, simulated};

fn iam(simulator: &Simulator, apikey: &str) -> AssistantAuth {
    AssistantAuth::Iam { apikey: apikey.into(), url: simulator.url().to_owned() }
}

fn good_iam(simulator: &Simulator) -> AssistantAuth {
    iam(simulator, "simulated-watsonx-apikey")
}

fn cloud_pak(simulator: &Simulator, secret: CloudPakSecret) -> AssistantAuth {
    let username = WatsonxInstance::demo().username;
    AssistantAuth::CloudPak { url: simulator.url().to_owned(), username, secret }
}

fn customer_with(simulator: &Simulator, auth: AssistantAuth) -> Customer {
    Customer::of(settings(vec![WatsonxLocation { auth, ..location(simulator) }]))
}

#[tokio::test]
async fn every_kind_of_credentials_is_let_in() {
    let simulator = simulated().await;
    let instance = WatsonxInstance::demo();
    let kinds = [
        AssistantAuth::ApiKey(instance.api_keys[0].clone().into()),
        good_iam(&simulator),
        AssistantAuth::Bearer(instance.static_tokens[0].clone().into()),
        cloud_pak(&simulator, CloudPakSecret::Password(instance.password.into())),
        cloud_pak(&simulator, CloudPakSecret::ApiKey(instance.api_keys[0].clone().into())),
    ];
    for auth in kinds {
        let shown = format!("{auth:?}");
        customer_with(&simulator, auth).say("hello").await.unwrap_or_else(|failure| panic!("{shown}: {failure}"));
    }
    simulator.assistant().allow_anonymous(true);
    customer_with(&simulator, AssistantAuth::None).say("hello").await.unwrap();
}

#[tokio::test]
async fn wrong_credentials_are_a_matter_for_an_operator_and_not_tried_again() {
    let simulator = simulated().await;
    let wrong = [
        (AssistantAuth::ApiKey("wrong".into()), Route::AssistantSession),
        (AssistantAuth::Bearer("wrong".into()), Route::AssistantSession),
        (AssistantAuth::None, Route::AssistantSession),
        (iam(&simulator, "wrong-key-of-mine"), Route::Token),
        (cloud_pak(&simulator, CloudPakSecret::Password("wrong-key-of-mine".into())), Route::Token),
    ];
    for (auth, route) in wrong {
        let before = calls(&simulator, route).len();
        let failure = customer_with(&simulator, auth).say("hello").await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Misconfigured, "{failure}");
        assert!(!failure.to_string().contains("wrong-key-of-mine"));
        assert_eq!(calls(&simulator, route).len(), before + 1, "{failure}");
    }
}

#[tokio::test]
async fn a_token_is_shared_and_renewed_once_when_it_is_refused() {
    let simulator = simulated().await;
    let mut customer = customer_with(&simulator, good_iam(&simulator));
    customer.say("hello").await.unwrap();
    customer.another().say("hello").await.unwrap();
    assert_eq!(calls(&simulator, Route::Token).len(), 1);
    simulator.assistant().expire_tokens();
    customer.say("hello").await.unwrap();
    assert_eq!(calls(&simulator, Route::Token).len(), 2);
    assert!(customer.attempts.is_empty());
}

#[tokio::test]
async fn a_token_that_is_always_refused_is_renewed_only_once() {
    let simulator = simulated().await;
    simulator.fail(Route::AssistantSession, Fault::status(401).always());
    let failure = customer_with(&simulator, good_iam(&simulator)).say("hello").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Misconfigured);
    assert_eq!(calls(&simulator, Route::Token).len(), 2);
    assert_eq!(calls(&simulator, Route::AssistantSession).len(), 2);
}

#[tokio::test]
async fn a_token_service_that_is_away_for_a_moment_is_asked_again() {
    let simulator = simulated().await;
    simulator.fail(Route::Token, Fault::status(503));
    customer_with(&simulator, good_iam(&simulator)).say("hello").await.unwrap();
    assert_eq!(calls(&simulator, Route::Token).len(), 2);
}

#[tokio::test]
async fn t12_a_key_that_changes_on_disk_is_read_again_when_it_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (name, auth) in [
        ("basic", (|_, key| AssistantAuth::ApiKey(key)) as fn(&Simulator, Secret) -> AssistantAuth),
        ("iam", |simulator, apikey| AssistantAuth::Iam { apikey, url: simulator.url().to_owned() }),
    ] {
        let simulator = simulated().await;
        let path = directory.path().join(name);
        std::fs::write(&path, "old-key\n").unwrap();
        let mut customer = customer_with(&simulator, auth(&simulator, Secret::in_file(&path).unwrap()));
        std::fs::write(&path, WatsonxInstance::demo().api_keys[0].expose_secret()).unwrap();
        customer.say("hello").await.unwrap_or_else(|failure| panic!("{name}: {failure}"));
        assert!(customer.attempts.is_empty(), "{name}");
    }
}
