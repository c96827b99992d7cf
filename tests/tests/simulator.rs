//! The simulator refuses what the real services refuse, and fails as ordered. All tests call it over plain HTTP.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "simulator/faults.rs"]
mod faults;
#[path = "simulator/intelepeer.rs"]
mod intelepeer;
#[path = "simulator/phone.rs"]
mod phone;
#[path = "simulator/twilio.rs"]
mod twilio;
#[path = "simulator/watsonx.rs"]
mod watsonx;
#[path = "simulator/webhook.rs"]
mod webhook;

use std::time::Duration;

use reqwest::StatusCode;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use simulator::{Simulator, SimulatorConfig};

/// The longest wait of a test, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);
const OURS: &str = "+12125550100";
const OURS_INTELEPEER: &str = "+12125550199";
const CUSTOMER: &str = "+14155550101";

async fn demo() -> Simulator {
    Simulator::start(SimulatorConfig::demo()).await.unwrap()
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().timeout(DEADLINE).tls_certs_only([]).no_proxy().build().unwrap()
}

/// A URL below the demo account, such as `Messages.json`.
fn twilio_url(simulator: &Simulator, rest: &str) -> String {
    format!("{}/2010-04-01/Accounts/{}/{rest}", simulator.url(), SimulatorConfig::demo().twilio.account_sid)
}

/// Adds the credentials of the demo account to the call.
fn signed_in(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    let account = SimulatorConfig::demo().twilio;
    request.basic_auth(&account.account_sid, Some(account.auth_token.expose_secret()))
}

/// Sends a text through Twilio's API.
fn send(simulator: &Simulator, form: &[(&str, &str)]) -> reqwest::RequestBuilder {
    signed_in(http().post(twilio_url(simulator, "Messages.json"))).form(form)
}

async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}
