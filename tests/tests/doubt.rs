//! Sends of unknown outcome, and the receipts that decide them, through the front door.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use simulator::{CallbackFrom, Fault, Receipt, Receipts, Route, TwilioQuirks};
use tests::house::{Backend, Blueprint, DEADLINE, House};

/// The delay of the list, in ms: 1 h. It is so long that only a receipt can decide the outcome.
const NOT_LISTED_MS: u64 = 3_600_000;

#[tokio::test]
async fn g3_t4_a_receipt_that_names_the_part_makes_no_second_text_whatever_sender_it_names() {
    t4(Backend::Embedded).await;
}

#[tokio::test]
async fn g3_t4_a_receipt_that_names_the_part_makes_no_second_text_on_servers() {
    t4(Backend::shared_servers()).await;
}

async fn t4(backend: Backend) {
    let house = House::open(Blueprint::new(backend)).await;
    let senders = [
        CallbackFrom::Other("+12125550177".to_owned()),
        CallbackFrom::Other("rcs:brand_agent".to_owned()),
        CallbackFrom::Omitted,
    ];
    for (customer, callback_from) in (1..).map(|n| format!("+1303555011{n}")).zip(senders) {
        let quirks = TwilioQuirks { callback_from, list_lag_ms: NOT_LISTED_MS, ..TwilioQuirks::default() };
        house.simulator.set_twilio_quirks(quirks.clone());
        house.simulator.fail(Route::TwilioSend, Fault::DropAfter);
        house.text(&customer, "hello").await;
        house.replies(&customer, 1).await;
        // The next reply of the conversation leaves only once the outcome of the first is known.
        house.text(&customer, "hello again").await;
        assert_eq!(house.replies(&customer, 2).await.len(), 2, "{quirks:?}");
        let calls =
            house.simulator.requests().into_iter().filter(|call| call.form_field("To") == Some(customer.clone()));
        assert_eq!((calls.count(), house.sent_to(&customer).len()), (2, 2), "{quirks:?}: a text was sent twice");
    }
    let refused = house.simulator.callbacks().into_iter().filter(|callback| callback.status != Some(204)).count();
    assert_eq!(refused, 0, "a receipt was refused for its sender");
    house.close(0).await;
}

async fn await_metric(house: &House, wanted: &str) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let seen = async {
        loop {
            let metrics =
                client.get(format!("{}/metrics", house.operations_url)).send().await.unwrap().text().await.unwrap();
            if metrics.lines().any(|line| line == wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, seen).await.unwrap_or_else(|_| panic!("{wanted} is not told"));
}

#[tokio::test]
async fn t6_a_text_that_does_not_arrive_is_counted_by_what_its_code_means() {
    let house = House::open(Blueprint::new(Backend::Embedded)).await;
    let cases =
        [(30034, "misconfigured"), (30003, "transient"), (21610, "opted_out"), (30007, "permanent"), (7, "other")];
    for (customer, (code, class)) in (1..).map(|n| format!("+1303555012{n}")).zip(cases) {
        let steps = vec![Receipt::Sent, Receipt::Undelivered(code), Receipt::Undelivered(code)];
        house.simulator.set_receipts(Receipts { steps, pause: Duration::ZERO });
        house.text(&customer, "hello").await;
        house.replies(&customer, 1).await;
        let wanted = format!("switchboard_undelivered_total{{integration=\"support\",class=\"{class}\"}} 1");
        await_metric(&house, &wanted).await;
    }
    house.close(0).await;
}

#[tokio::test]
async fn g2_t15_a_callback_url_that_twilio_refuses_costs_no_reply() {
    let house = House::open(Blueprint::new(Backend::Embedded)).await;
    house.simulator.set_twilio_quirks(TwilioQuirks { refuse_callbacks: true, ..TwilioQuirks::default() });
    let customer = "+13035550131";
    house.text(customer, "hello").await;
    house.replies(customer, 1).await;
    await_metric(&house, "switchboard_callbacks_refused_total{provider=\"twilio\"} 1").await;
    house.close(0).await;
}
