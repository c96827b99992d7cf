//! Scenario `ingress`: from signed Twilio webhooks to 204, each published with a confirm of a quorum queue.
//!
//! Floors of the same round: an HTTP handler that only reads the body, and bare lapin that publishes the same bytes to
//! the same queues. The broker floor has as many messages unconfirmed at a time as ingress has requests.

use std::net::SocketAddr;
use std::time::Duration;

use ::broker::Stage;

use super::{Plan, SHARES, conclude_latencies, fresh_batch, share_of};
use crate::child::{self, Server};
use crate::figure::Target;
use crate::floor::broker;
use crate::load;
use crate::pace::Pace;
use crate::queues::Queues;
use crate::role::{Installation, Role};
use crate::sheet::Sheet;
use crate::spending::Spending;

/// The numbers of connections that are tried for the maximum.
const CONNECTIONS: [u32; 4] = [1, 8, 16, 64];
/// The number of connections for the latencies and the HTTP floor, and the broker floor's number of unconfirmed
/// messages.
const MOST_CONNECTIONS: u32 = 64;

/// The longest wait for a sample from the queues.
const SAMPLE_DEADLINE: Duration = Duration::from_secs(20);

/// Measures the scenario.
pub(super) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let (installation, prefix) = plan.on_servers()?;
    let ingress = installation.start("ingress").await?;
    let http = Server::start("floor-http").await?;
    let queues = Queues::open(&plan.amqp_url, &prefix).await?;
    let mut bench = Bench { plan, prefix, installation, roles: [ingress], http, queues, payload: String::new() };
    // Warms ingress up, and leaves the message whose bytes the floor publishes.
    bench.ours(8, Pace::Saturating).await?;
    bench.payload = bench.queues.take(Stage::Inbound, SAMPLE_DEADLINE).await?;
    bench.queues.empty().await?;
    let mut sheet = Sheet::new("ingress");
    for round in 1..=plan.rounds {
        eprintln!("bench: ingress, round {round} of {}", plan.rounds);
        bench.round(&mut sheet).await?;
    }
    for role in bench.roles {
        role.stop().await?;
    }
    conclude(&mut sheet, bench.payload.len())?;
    Ok(sheet)
}

struct Bench<'a> {
    plan: &'a Plan,
    prefix: String,
    installation: Installation,
    roles: [Role; 1],
    http: Server,
    queues: Queues,
    payload: String,
}

impl Bench<'_> {
    async fn round(&self, sheet: &mut Sheet) -> anyhow::Result<()> {
        let mut most_per_s = 0.0_f64;
        let before = Spending::now(&[])?;
        let floor = self.floor(MOST_CONNECTIONS, Pace::Saturating).await?;
        sheet.note("broker floor maximum", "1/s", floor.rate_per_s);
        before.note(sheet, "broker floor", &[], ("program", floor.cpu_s), floor.count)?;
        let wider = self.floor(broker::WINDOW, Pace::Saturating).await?;
        sheet.note(format!("broker floor, {} unconfirmed", broker::WINDOW), "1/s", wider.rate_per_s);
        let http = self.http_floor(MOST_CONNECTIONS, Pace::Saturating).await?;
        sheet.note("HTTP floor maximum", "1/s", http.rate_per_s);
        for connections in CONNECTIONS {
            let before = Spending::now(&self.roles)?;
            let ours = self.ours(connections, Pace::Saturating).await?;
            sheet.note(format!("ingress, {connections} connections"), "1/s", ours.rate_per_s);
            sheet.note_latency(&format!("ingress, {connections} connections"), &ours.latency);
            if connections == MOST_CONNECTIONS {
                before.note(sheet, "ingress", &self.roles, ("generator", ours.cpu_s), ours.taken)?;
            }
            most_per_s = most_per_s.max(ours.rate_per_s);
        }
        sheet.note("ingress maximum", "1/s", most_per_s);
        for share in SHARES {
            let pace = share_of(most_per_s, share)?;
            let floor = self.floor(MOST_CONNECTIONS, pace).await?;
            let ours = self.ours(MOST_CONNECTIONS, pace).await?;
            sheet.note_latency(&format!("broker floor at {share} %"), &floor.latency);
            sheet.note_latency(&format!("ingress at {share} %"), &ours.latency);
        }
        let http = self.http_floor(MOST_CONNECTIONS, share_of(most_per_s, 50)?).await?;
        sheet.note_latency("HTTP floor at 50 %", &http.latency);
        Ok(())
    }

    async fn ours(&self, connections: u32, pace: Pace) -> anyhow::Result<load::Outcome> {
        let outcome = post(&self.installation, connections, pace, self.plan.seconds).await?;
        if !self.payload.is_empty() {
            self.queues.empty().await?;
        }
        Ok(outcome)
    }

    async fn http_floor(&self, connections: u32, pace: Pace) -> anyhow::Result<load::Outcome> {
        let target = self.http.address.parse()?;
        post_to(target, &self.installation, connections, pace, self.plan.seconds).await
    }

    async fn floor(&self, window: u32, pace: Pace) -> anyhow::Result<broker::Outcome> {
        let order = broker::Order {
            amqp_url: self.plan.amqp_url.clone(),
            prefix: self.prefix.clone(),
            payload: self.payload.clone(),
            window,
            pace,
            seconds: self.plan.seconds,
        };
        let outcome = child::run("floor-broker", &order).await?;
        self.queues.empty().await?;
        Ok(outcome)
    }
}

/// Posts webhooks to the ingress of `installation`.
///
/// # Errors
/// When a webhook is not answered 204.
pub(super) async fn post(
    installation: &Installation,
    connections: u32,
    pace: Pace,
    seconds: f64,
) -> anyhow::Result<load::Outcome> {
    post_to(installation.target()?, installation, connections, pace, seconds).await
}

async fn post_to(
    target: SocketAddr,
    installation: &Installation,
    connections: u32,
    pace: Pace,
    seconds: f64,
) -> anyhow::Result<load::Outcome> {
    let public_url = installation.public_url.clone();
    let order = load::Order { target, public_url, connections, pace, seconds, batch: fresh_batch() };
    child::run("load", &order).await
}

fn conclude(sheet: &mut Sheet, payload_bytes: usize) -> anyhow::Result<()> {
    sheet.ratio("ingress maximum", "broker floor maximum", Some(Target::AtLeast(0.85)))?;
    conclude_latencies(sheet, &SHARES, ("ingress", "broker floor"), |share, part| {
        ((share, part) == (50, "p99")).then_some(Target::AtMost(1.5))
    })?;
    sheet.remark(format!(
        "The floors publish the {payload_bytes} bytes of one of ingress's own envelopes, to the same queues. Shares are \
         of the same round's maximum of ingress, for the floors too."
    ));
    Ok(())
}
