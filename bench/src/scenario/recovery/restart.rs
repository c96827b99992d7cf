//! The time from when a restarted RabbitMQ accepts clients to the first provider call for a text that came during the
//! outage. Such a text goes the whole way: ingress's spool, the inbound queue, the worker, the outbound queue, the
//! sender. No role is restarted, and texts arrive all the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lapin::{Connection, ConnectionProperties};
use tests::servers::RabbitMqServer;

use super::super::Plan;
use crate::figure::Target;
use crate::load::stand_in;
use crate::load::webhook::Webhooks;
use crate::role::{Backend, Installation, Role};
use crate::sheet::Sheet;
use crate::tally::Tally;
use crate::traffic::Traffic;

/// Texts a second. All customers differ, as long as there are fewer texts than [`crate::load::webhook::CONVERSATIONS`].
const ARRIVING_PER_S: f64 = 25.0;
/// The number of texts that must come through before RabbitMQ is stopped.
const BEFORE: u64 = 25;
/// The longest wait for the first text, and for all texts, after RabbitMQ is back.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The way in which RabbitMQ ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Stopped,
    Killed,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Stopped => "a clean stop",
            Self::Killed => "kill -9",
        }
    }
}

/// Measures the restarts.
pub(super) async fn measure(plan: &Plan, sheet: &mut Sheet) -> anyhow::Result<()> {
    let broker = Arc::new(tokio::task::block_in_place(|| RabbitMqServer::start_release(plan.release))?);
    let backend = Backend::Servers {
        amqp_url: broker.url().to_owned(),
        redis_url: plan.redis_url.to_owned(),
        prefix: format!("bench-{:08x}", rand::random::<u32>()),
    };
    let installation = Installation::new(&plan.binary, &backend)?;
    let tally = Arc::<Tally>::default();
    let taken = Arc::clone(&tally);
    let _stand_in = stand_in::start(installation.provider, move |to, now| taken.note(to, now)).await?;
    let mut roles: Vec<Role> = Vec::new();
    for role in ["ingress", "worker", "sender"] {
        roles.push(installation.start(role).await?);
    }
    let traffic = Traffic::start(&installation, ARRIVING_PER_S).await?;
    // Both ways of ending count for the target.
    for round in 1..=plan.rounds.div_ceil(2) {
        for end in [End::Stopped, End::Killed] {
            eprintln!("bench: recovery, {}, {round} of {}", end.name(), plan.rounds.div_ceil(2));
            tally.reach(tally.count() + BEFORE, DEADLINE).await?;
            let recovery = restart(&broker, end, &tally, &traffic).await?;
            sheet.note("first text after a restart", "s", recovery.first_s);
            sheet.note(format!("first text after {}", end.name()), "s", recovery.first_s);
            sheet.note(format!("RabbitMQ's own start after {}", end.name()), "s", recovery.starting_s);
        }
    }
    let posted = traffic.stop().await?;
    tally.reach(posted, DEADLINE).await?;
    tally.ensure_once(posted)?;
    for role in roles {
        role.end().await?;
    }
    sheet.aim("first text after a restart", Target::AtMost(2.0))?;
    sheet.remark(format!(
        "Restarts: {posted} texts came in all, {ARRIVING_PER_S} a second, and each reached the provider once. RabbitMQ \
         counts as ready once a client can open a connection."
    ));
    Ok(())
}

struct Recovery {
    first_s: f64,
    starting_s: f64,
}

/// Ends RabbitMQ and starts it again. Returns once every text that came during the outage has come through.
async fn restart(broker: &Arc<RabbitMqServer>, end: End, tally: &Tally, traffic: &Traffic) -> anyhow::Result<Recovery> {
    tokio::task::block_in_place(|| match end {
        End::Stopped => broker.stop(),
        End::Killed => broker.kill(),
    })?;
    let first_away = traffic.posted();
    let began = Instant::now();
    let starting = tokio::task::spawn_blocking({
        let broker = Arc::clone(broker);
        move || broker.start_again()
    });
    let ready = ready(broker.url()).await?;
    let came = first_of(tally, first_away, ready + DEADLINE).await?;
    starting.await.context("RabbitMQ did not start")??;
    tally.reach(traffic.posted(), DEADLINE).await?;
    let first_s = came.saturating_duration_since(ready).as_secs_f64();
    Ok(Recovery { first_s, starting_s: ready.duration_since(began).as_secs_f64() })
}

/// The time at which a client could first open a connection.
async fn ready(amqp_url: &str) -> anyhow::Result<Instant> {
    let until = Instant::now() + DEADLINE;
    loop {
        if Connection::connect(amqp_url, ConnectionProperties::default()).await.is_ok() {
            return Ok(Instant::now());
        }
        ensure!(Instant::now() < until, "RabbitMQ lets nobody in");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The time at which the first text with number `first` or higher reached the provider.
async fn first_of(tally: &Tally, first: u64, until: Instant) -> anyhow::Result<Instant> {
    loop {
        if let Some(came) = tally.first(|to| Webhooks::number_of(to).is_some_and(|number| number >= first)) {
            return Ok(came);
        }
        ensure!(Instant::now() < until, "no text moves after the restart");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
