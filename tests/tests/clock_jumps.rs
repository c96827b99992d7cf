//! The wall clock is set forward and back by hours under traffic: nothing is lost, repeated, reordered or stuck.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use message::clock::{Clock, Timestamp};
use simulator::{Fault, Route};
use tests::house::{Backend, Blueprint, House};
use tests::traffic::Traffic;

const TRAFFIC: Traffic = Traffic { conversations: 12, turns: 15, gap: Duration::from_millis(80) };
const HOURS: i64 = 6 * 3600;

/// A house whose wall clock is off by as many seconds as the returned number says.
async fn house_with_clock(backend: Backend) -> (House, Arc<AtomicI64>) {
    let off_s = Arc::new(AtomicI64::new(0));
    let (real, read) = (Clock::system(), Arc::clone(&off_s));
    let clock = Clock::from_fn(move || {
        let off_ns = i128::from(read.load(Ordering::SeqCst)) * 1_000_000_000;
        Timestamp::from_nanosecond(real.now().as_nanosecond() + off_ns).unwrap()
    });
    let house = House::open(Blueprint { workers: 2, clock, ..Blueprint::new(backend) }).await;
    Traffic::echo(&house);
    (house, off_s)
}

async fn the_clock_jumps(backend: Backend) {
    let (house, off_s) = house_with_clock(backend).await;
    // Some parts wait for their sending number, because a 429 pauses it.
    house.simulator.fail(Route::TwilioSend, Fault::retry_after(429, 1).with_chance(0.02));
    let jumps = async {
        for jump in [HOURS, -HOURS, -HOURS, HOURS] {
            tokio::time::sleep(Duration::from_millis(250)).await;
            off_s.fetch_add(jump, Ordering::SeqCst);
        }
    };
    let started = Instant::now();
    tokio::join!(TRAFFIC.text(&house), jumps);
    TRAFFIC.judge(&house).await;
    assert!(started.elapsed() < Duration::from_secs(50), "{:?}", started.elapsed());
    house.close(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_g4_hold_while_the_clock_jumps_on_the_embedded_backend() {
    the_clock_jumps(Backend::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_g4_hold_while_the_clock_jumps_on_servers() {
    the_clock_jumps(Backend::shared_servers()).await;
}
