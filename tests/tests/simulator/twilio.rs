//! Twilio's REST API as the simulator serves it.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use simulator::{CallbackFrom, Number, Receipt, Receipts, Simulator, SimulatorConfig, TwilioQuirks};

use super::webhook::Webhook;
use super::{CUSTOMER, DEADLINE, OURS, answer, demo, http, send, signed_in, twilio_url};

#[tokio::test]
async fn an_accepted_text_has_every_documented_field() {
    let simulator = demo().await;
    let (status, text) = answer(send(&simulator, &[("To", CUSTOMER), ("From", OURS), ("Body", "hello")])).await;
    assert_eq!(status, 201);
    assert_eq!(text["status"], "queued");
    assert_eq!(text["num_segments"], "1");
    assert_eq!(text["num_media"], "0");
    assert_eq!(text["error_code"], Value::Null);
    assert_eq!(text["direction"], "outbound-api");
    let sid = text["sid"].as_str().unwrap();
    assert!(sid.starts_with("SM") && sid.len() == 34, "{sid}");
    assert!(text["date_created"].as_str().unwrap().ends_with(" +0000"));
    for field in ["date_sent", "price", "error_message", "messaging_service_sid", "subresource_uris", "uri"] {
        assert!(text.get(field).is_some(), "{field} is missing");
    }
    let kept = simulator.messages();
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].sid.as_str(), kept[0].body.as_str()), (sid, "hello"));
}

#[tokio::test]
async fn bad_texts_are_refused_with_twilios_codes_and_kept_out_of_the_record() {
    let simulator = demo().await;
    let long = "x".repeat(1601);
    let cases: [(&[(&str, &str)], u64); 14] = [
        (&[("From", OURS), ("Body", "x")], 21604),
        (&[("To", CUSTOMER), ("Body", "x")], 21603),
        (&[("To", CUSTOMER), ("From", OURS)], 21602),
        (&[("To", CUSTOMER), ("From", OURS), ("Body", &long)], 21617),
        (&[("To", "call me"), ("From", OURS), ("Body", "x")], 21211),
        (&[("To", CUSTOMER), ("From", "+12125550000"), ("Body", "x")], 21606),
        (&[("To", CUSTOMER), ("MessagingServiceSid", "MGnone"), ("Body", "x")], 21701),
        (&[("To", CUSTOMER), ("From", OURS), ("Body", "x"), ("StatusCallback", "nowhere")], 21609),
        (&[("To", CUSTOMER), ("From", OURS), ("MediaUrl", "ftp://example.com/a.png")], 21620),
        (&[("To", "+15005550002"), ("From", OURS), ("Body", "x")], 21612),
        (&[("To", "+15005550004"), ("From", OURS), ("Body", "x")], 21610),
        (&[("To", CUSTOMER), ("From", "+15005550001"), ("Body", "x")], 21212),
        (&[("To", CUSTOMER), ("From", "+15005550007"), ("Body", "x")], 21606),
        (&[("To", CUSTOMER), ("From", "+15005550008"), ("Body", "x")], 21611),
    ];
    for (form, code) in cases {
        let (status, refusal) = answer(send(&simulator, form)).await;
        assert_eq!((status.as_u16(), refusal["code"].as_u64()), (400, Some(code)), "{refusal}");
        assert_eq!(refusal["status"], 400);
        assert!(refusal["message"].is_string() && refusal["more_info"].is_string());
    }
    assert!(simulator.messages().is_empty());
}

#[tokio::test]
async fn wrong_credentials_and_unknown_paths_are_refused() {
    let simulator = demo().await;
    let (status, refusal) = answer(http().get(twilio_url(&simulator, "Messages.json"))).await;
    assert_eq!((status.as_u16(), refusal["code"].as_u64()), (401, Some(20003)));
    let wrong = http().get(twilio_url(&simulator, "Messages.json")).basic_auth("AC1", Some("no"));
    assert_eq!(answer(wrong).await.0, 401);
    let other = format!("{}/2010-04-01/Accounts/AC2/Messages.json", simulator.url());
    let (status, refusal) = answer(signed_in(http().get(other))).await;
    assert_eq!((status.as_u16(), refusal["code"].as_u64()), (404, Some(20404)));
    let (status, refusal) = answer(signed_in(http().get(twilio_url(&simulator, "Messages/SM1.json")))).await;
    assert_eq!((status.as_u16(), refusal["code"].as_u64()), (404, Some(20404)));
    let authorization = |r: &simulator::RequestRecord| r.header("authorization").map(str::to_owned);
    let shown: Vec<String> = simulator.requests().iter().filter_map(authorization).collect();
    assert_eq!(shown, ["***", "***", "***"]);
}

#[tokio::test]
async fn a_messaging_service_sends_from_its_pool() {
    let simulator = demo().await;
    let service = "MG00000000000000000000000000000001";
    let form = [("To", CUSTOMER), ("MessagingServiceSid", service), ("Body", "hello")];
    let (status, text) = answer(send(&simulator, &form)).await;
    assert_eq!(status, 201);
    assert_eq!((&text["status"], &text["from"]), (&json!("accepted"), &Value::Null));
    assert_eq!((&text["num_segments"], &text["messaging_service_sid"]), (&json!("0"), &json!(service)));
    let sent = simulator.wait_for(|s| s.messages().first().filter(|m| m.sent_at.is_some()).cloned());
    assert_eq!(tokio::time::timeout(DEADLINE, sent).await.unwrap().unwrap().from, OURS);
    let one = twilio_url(&simulator, &format!("Messages/{}.json", text["sid"].as_str().unwrap()));
    let (_, text) = answer(signed_in(http().get(one))).await;
    assert_eq!((&text["from"], &text["num_segments"]), (&json!(OURS), &json!("1")));
}

#[tokio::test]
async fn the_list_has_pages_that_new_texts_do_not_shift() {
    let simulator = demo().await;
    for body in ["1", "2", "3", "4", "5"] {
        assert_eq!(answer(send(&simulator, &[("To", CUSTOMER), ("From", OURS), ("Body", body)])).await.0, 201);
    }
    let list = twilio_url(&simulator, "Messages.json?PageSize=2&To=%2B14155550101");
    let mut page = answer(signed_in(http().get(list))).await.1;
    assert_eq!(answer(send(&simulator, &[("To", CUSTOMER), ("From", OURS), ("Body", "late")])).await.0, 201);
    let mut bodies = Vec::new();
    loop {
        bodies.extend(page["messages"].as_array().unwrap().iter().map(|m| m["body"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_page_uri"].as_str() else { break };
        page = answer(signed_in(http().get(format!("{}{next}", simulator.url())))).await.1;
    }
    assert_eq!(bodies, ["5", "4", "3", "2", "1"]);
    let none = twilio_url(&simulator, "Messages.json?DateSent%3E=2999-01-01");
    assert_eq!(answer(signed_in(http().get(none))).await.1["messages"], json!([]));
    let wrong = twilio_url(&simulator, "Messages.json?DateSent=yesterday");
    assert_eq!(answer(signed_in(http().get(wrong))).await.0, 400);
}

#[tokio::test]
async fn a_number_gets_its_webhook_through_the_api() {
    let simulator = demo().await;
    let found = twilio_url(&simulator, "IncomingPhoneNumbers.json?PhoneNumber=%2B12125550100");
    let numbers = answer(signed_in(http().get(found))).await.1;
    let sid = numbers["incoming_phone_numbers"][0]["sid"].as_str().unwrap().to_owned();
    let one = twilio_url(&simulator, &format!("IncomingPhoneNumbers/{sid}.json"));
    let bad = signed_in(http().post(&one)).form(&[("SmsUrl", "nowhere")]);
    assert_eq!(answer(bad).await.1["code"], 21402);
    let webhook = Webhook::start(&[]).await;
    let good = signed_in(http().post(&one)).form(&[("SmsUrl", webhook.url("/in").as_str()), ("SmsMethod", "POST")]);
    assert_eq!(answer(good).await.1["sms_url"], webhook.url("/in"));
    assert_eq!(simulator.phone().text(CUSTOMER, OURS, "hello").await.unwrap().status, 204);
    assert_eq!(webhook.got()[0].uri, "/in");
}

#[tokio::test]
async fn receipts_are_signed_keep_the_query_and_come_as_configured() {
    let simulator = demo().await;
    let steps = vec![Receipt::Delivered, Receipt::Sent, Receipt::Sent];
    simulator.set_receipts(Receipts { steps, pause: Duration::ZERO });
    let webhook = Webhook::start(&[]).await;
    let callback = webhook.url("/status?part=7&x=%20y");
    let form = [("To", CUSTOMER), ("From", OURS), ("Body", "hello"), ("StatusCallback", callback.as_str())];
    let (_, text) = answer(send(&simulator, &form)).await;
    let all = simulator.wait_for(|s| (s.callbacks().len() == 3).then(|| s.callbacks()));
    let callbacks = tokio::time::timeout(DEADLINE, all).await.unwrap().unwrap();
    assert_eq!(callbacks.iter().map(|c| c.state.word()).collect::<Vec<_>>(), ["delivered", "sent", "sent"]);
    let got = webhook.got();
    assert_eq!(got[0].uri, "/status?part=7&x=%20y");
    let form: Vec<(String, String)> = form_fields(&got[0].body);
    assert!(form.contains(&("MessageStatus".to_owned(), "delivered".to_owned())));
    assert!(form.contains(&("MessageSid".to_owned(), text["sid"].as_str().unwrap().to_owned())));
    let signature = simulator::twilio::sign(&"simulated-twilio-token".into(), &callback, &form);
    assert_eq!(got[0].header("x-twilio-signature"), signature);
    assert_eq!(simulator.messages()[0].state.word(), "delivered");
}

/// The fields of a form body.
pub(crate) fn form_fields(body: &str) -> Vec<(String, String)> {
    reqwest::Url::parse(&format!("http://form/?{body}")).unwrap().query_pairs().into_owned().collect()
}

#[tokio::test]
async fn b4_the_words_that_the_api_shows_are_altered_on_demand() {
    let simulator = demo().await;
    let form = [("To", CUSTOMER), ("From", OURS), ("Body", "We’re open… “always”")];
    let (_, text) = answer(send(&simulator, &form)).await;
    let one = twilio_url(&simulator, &format!("Messages/{}.json", text["sid"].as_str().unwrap()));
    let cases = [
        (TwilioQuirks::default(), "We’re open… “always”"),
        (
            TwilioQuirks { trial: true, ..TwilioQuirks::default() },
            "Sent from your Twilio trial account - We’re open… “always”",
        ),
        (TwilioQuirks { smart_encoding: true, ..TwilioQuirks::default() }, "We're open... \"always\""),
        (TwilioQuirks { redacted: Some(String::new()), trial: true, ..TwilioQuirks::default() }, ""),
        (TwilioQuirks { appended: Some(" Bye".to_owned()), ..TwilioQuirks::default() }, "We’re open… “always” Bye"),
    ];
    for (quirks, shown) in cases {
        simulator.set_twilio_quirks(quirks);
        let (_, fetched) = answer(signed_in(http().get(&one))).await;
        assert_eq!(fetched["body"], shown);
        let (_, listed) = answer(signed_in(http().get(twilio_url(&simulator, "Messages.json")))).await;
        assert_eq!(listed["messages"][0]["body"], shown);
    }
    assert_eq!(simulator.messages()[0].body, "We’re open… “always”", "what the customer was to be told stays");
}

#[tokio::test]
async fn b4_the_list_lags_and_callbacks_are_refused_on_demand_over_http() {
    let simulator = demo().await;
    let quirks = format!("{}/_simulator/twilio", simulator.url());
    let set = |value: Value| http().post(&quirks).json(&value).send();
    let list = || answer(signed_in(http().get(twilio_url(&simulator, "Messages.json"))));
    let form = [("To", CUSTOMER), ("From", OURS), ("Body", "x"), ("StatusCallback", "http://127.0.0.1:9/")];
    assert_eq!(set(json!({ "refuse_callbacks": true })).await.unwrap().status(), 204);
    let (status, refusal) = answer(send(&simulator, &form)).await;
    assert_eq!((status.as_u16(), refusal["code"].as_u64()), (400, Some(21609)));
    assert_eq!(set(json!({ "list_lag_ms": 3_600_000 })).await.unwrap().status(), 204);
    assert_eq!(answer(send(&simulator, &form)).await.0, 201);
    assert_eq!(list().await.1["messages"], json!([]));
    assert_eq!(set(json!({})).await.unwrap().status(), 204);
    assert_eq!(list().await.1["messages"].as_array().unwrap().len(), 1);
    assert_eq!(set(json!({ "list_lag": 1 })).await.unwrap().status(), 422, "a word that is not known is an error");
}

#[tokio::test]
async fn t4_a_service_takes_its_numbers_in_turn_and_callbacks_name_another_sender_on_demand() {
    let mut config = SimulatorConfig::demo();
    config.twilio.numbers.push(Number::new("+12125550101"));
    config.twilio.messaging_services[0].numbers.push("+12125550101".to_owned());
    let service = config.twilio.messaging_services[0].sid.clone();
    let simulator = Simulator::start(config).await.unwrap();
    let webhook = Webhook::start(&[]).await;
    let callback = webhook.url("/status");
    let form = [("To", CUSTOMER), ("MessagingServiceSid", &service), ("Body", "x"), ("StatusCallback", &callback)];
    let cases = [
        (CallbackFrom::Number, Some(OURS)),
        (CallbackFrom::Number, Some("+12125550101")),
        (CallbackFrom::Other("+12125550177".to_owned()), Some("+12125550177")),
        (CallbackFrom::Omitted, None),
    ];
    simulator.set_receipts(Receipts { steps: vec![Receipt::Sent], pause: Duration::ZERO });
    for (told, (callback_from, expected)) in (1..).zip(cases) {
        simulator.set_twilio_quirks(TwilioQuirks { callback_from, ..TwilioQuirks::default() });
        assert_eq!(answer(send(&simulator, &form)).await.0, 201);
        let all = simulator.wait_for(|s| (s.callbacks().len() == told).then_some(()));
        tokio::time::timeout(DEADLINE, all).await.unwrap().unwrap();
        let form = form_fields(&webhook.got()[told - 1].body);
        let from = form.iter().find(|(name, _)| name == "From").map(|(_, value)| value.as_str());
        assert_eq!(from, expected);
    }
}

#[tokio::test]
async fn t11_an_api_key_sends_and_lists_but_does_not_show_the_account() {
    let simulator = demo().await;
    let key = SimulatorConfig::demo().twilio.api_keys.remove(0);
    let sign = |request: reqwest::RequestBuilder, secret: &str| request.basic_auth(&key.sid, Some(secret));
    let secret = key.secret.expose_secret();
    let form = [("To", CUSTOMER), ("From", OURS), ("Body", "x")];
    let create = || http().post(twilio_url(&simulator, "Messages.json")).form(&form);
    assert_eq!(answer(sign(create(), "wrong")).await.0, 401);
    assert_eq!(answer(sign(create(), secret)).await.0, 201);
    let list = http().get(twilio_url(&simulator, "Messages.json"));
    assert_eq!(answer(sign(list, secret)).await.0, 200);
    let account = SimulatorConfig::demo().twilio.account_sid;
    let account = || http().get(format!("{}/2010-04-01/Accounts/{account}.json", simulator.url()));
    assert_eq!(answer(sign(account(), secret)).await.0, 401);
    assert_eq!(answer(signed_in(account())).await.0, 200);
}
