//! A small run of the fault suite, and a test of its judge: a judge that does not notice violations proves nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use tests::chaos::{self, Backend, Row, Scenario, Size};

const SEED: u64 = 20_261;

fn scenario(name: &str, backend: Backend) -> Scenario {
    Scenario::all().into_iter().find(|one| one.name == name && one.is_for(backend)).unwrap()
}

/// Runs the scenarios `names` at the same time, because most of their time is waiting.
async fn keeps_its_promises(backend: Backend, names: &[&str], size: Size) {
    let scenarios: Vec<_> = names.iter().map(|name| scenario(name, backend)).collect();
    let rows = futures_util::future::join_all(scenarios.iter().map(|one| chaos::run(one, size))).await;
    let table = chaos::markdown(&rows);
    assert!(rows.iter().all(|row| row.violations.is_empty()), "{table}");
    assert!(rows.iter().map(|row| row.kills + row.step_kills + row.terminations).sum::<u32>() >= 3, "{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_g4_hold_on_one_embedded_process_that_is_killed() {
    let size = Size { backend: Backend::Embedded, seed: SEED, texts: 600, kills: 16, rate_per_second: 40.0 };
    keeps_its_promises(Backend::Embedded, &["kills", "terminations"], size).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_g4_hold_on_rabbitmq_and_redis_when_roles_are_killed() {
    let size = Size { backend: Backend::Servers, seed: SEED, texts: 600, kills: 16, rate_per_second: 25.0 };
    keeps_its_promises(Backend::Servers, &["kills"], size).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_holds_when_ingress_dies_on_a_spool_with_no_room_while_the_broker_is_away() {
    let size = Size { backend: Backend::Servers, seed: SEED, texts: 2000, kills: 0, rate_per_second: 30.0 };
    keeps_its_promises(Backend::Servers, &["disk"], size).await;
}

/// A short run on a Switchboard that is broken on purpose.
async fn broken(how: &'static str, name: &str) -> Row {
    let size = Size { backend: Backend::Embedded, seed: SEED, texts: 500, kills: 40, rate_per_second: 30.0 };
    broken_in(how, name, size).await
}

async fn broken_in(how: &'static str, name: &str, size: Size) -> Row {
    let row = chaos::run(&scenario(name, size.backend).sabotaged(how), size).await;
    assert!(!row.violations.is_empty(), "nobody noticed {how}:\n{}", chaos::markdown(&[row]));
    row
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_notices_a_dropped_confirm() {
    let row = broken("drop_confirm", "duplicates").await;
    assert!(row.findings.lost > 0, "{row:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_notices_messages_that_are_settled_too_early() {
    let row = broken("ack_early", "kills").await;
    assert!(row.findings.lost > 0, "{row:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_notices_a_missing_turn_ledger() {
    let row = broken("forget_turns", "duplicates").await;
    assert!(row.findings.asked_twice > 0, "{row:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_notices_a_missing_send_ledger() {
    let row = broken("forget_sends", "duplicates").await;
    assert!(row.findings.twice > 0, "{row:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_notices_messages_that_overtake() {
    let row = broken("shuffle", "duplicates").await;
    assert!(row.findings.out_of_order > 0, "{row:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_notices_a_text_that_is_accepted_before_the_spool_has_it() {
    let size = Size { backend: Backend::Servers, seed: SEED, texts: 1500, kills: 0, rate_per_second: 20.0 };
    let row = broken_in("skip_spool", "spool", size).await;
    assert!(row.findings.lost > 0, "{row:?}");
}
