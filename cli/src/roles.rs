//! Starts roles in this process and ends them together.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use broker::Stage;
use config::Config;
#[cfg(not(feature = "failpoints"))]
use message::clock::Clock;
use message::failure::Failure;
use message::shutdown::Shutdown;
use operations::{self, Health};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tracing::{error, info};
use work::Ports;
use work::spool_status::Intake;

use crate::signals;

/// One of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The HTTP front door.
    Ingress,
    /// Turns.
    Worker,
    /// Sends.
    Sender,
}

impl Role {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Ingress, Self::Worker, Self::Sender];

    fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Worker => "worker",
            Self::Sender => "sender",
        }
    }

    fn stages(self) -> &'static [Stage] {
        match self {
            Self::Ingress => &[],
            Self::Worker => &[Stage::Inbound, Stage::Receipts],
            Self::Sender => &[Stage::Outbound],
        }
    }
}

/// Runs `roles` as `config` says until a signal stops them.
pub(crate) async fn run(config: Config, roles: &[Role]) -> anyhow::Result<()> {
    let shutdown = Shutdown::new(config.shutdown_grace);
    signals::listen(shutdown.clone())?;
    signals::read_again(config.integrations.iter().flat_map(|one| one.secrets()).collect())?;
    #[cfg(not(feature = "failpoints"))]
    let clock = Clock::system();
    #[cfg(feature = "failpoints")]
    let clock = message::failpoint::clock();
    let ports = ports::open(&config, clock)?;
    let webhooks = if roles.contains(&Role::Ingress) { Some(bind(config.ingress.listen)?) } else { None };
    let operations = bind(config.operations.listen)?;
    let running = start(&config, roles, webhooks, ports, &shutdown);
    let served = tokio::spawn(operations::serve(operations, running.health.clone(), shutdown.clone()));
    info!(roles = ?roles, "ready");
    let outcome = running.finished(&shutdown).await;
    drop(served.await);
    info!("stopped");
    outcome
}

/// How many connections the kernel holds that are not accepted yet. The next client's packet is dropped, and the client
/// sends it again only a second later. Linux holds no more than `net.core.somaxconn`, 4096 by default:
/// <https://man7.org/linux/man-pages/man2/listen.2.html>.
const ACCEPT_QUEUE: u32 = 4096;

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // The address of a process that has just ended can be taken over at once.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(ACCEPT_QUEUE)
    };
    listen().with_context(|| format!("cannot listen on {address}"))
}

/// Roles that run in this process.
#[derive(Debug)]
pub(crate) struct Running {
    tasks: JoinSet<(&'static str, Result<(), Failure>)>,
    /// What the readiness of the roles depends on.
    pub(crate) health: Health,
}

/// Starts `roles`; `webhooks` is where ingress listens.
pub(crate) fn start(
    config: &Config,
    roles: &[Role],
    webhooks: Option<TcpListener>,
    ports: Ports,
    shutdown: &Shutdown,
) -> Running {
    // Installed before the first message, so that metrics are complete at the first scrape.
    drop(operations::metrics_recorder());
    let stages = roles.iter().flat_map(|role| role.stages()).map(|stage| (*stage, ports.progress.of(*stage)));
    let needs_store = roles.iter().any(|role| *role != Role::Ingress);
    let intake = Arc::<Intake>::default();
    let health = Health {
        broker: ports.broker.clone(),
        intake: webhooks.is_some().then(|| Arc::clone(&intake)),
        store: needs_store.then(|| ports.store.clone()),
        stages: stages.collect(),
        clock: ports.clock.clone(),
        dead_after: config.operations.dead_after,
    };
    let mut tasks = JoinSet::new();
    if let Some(listener) = webhooks {
        let (config, ports, shutdown) = (config.clone(), ports.clone(), shutdown.clone());
        tasks.spawn(async move {
            ("ingress", ingress::run(listener, &config, ports.broker, ports.clock, intake, shutdown).await)
        });
    }
    for role in roles {
        let (name, config, ports, shutdown) = (role.name(), config.clone(), ports.clone(), shutdown.clone());
        match role {
            Role::Ingress => None,
            Role::Worker => Some(tasks.spawn(async move { (name, worker::run(&config, ports, shutdown).await) })),
            Role::Sender => Some(tasks.spawn(async move { (name, sender::run(&config, ports, shutdown).await) })),
        };
    }
    Running { tasks, health }
}

impl Running {
    /// Returns when all roles have ended, with the first failure if a role failed. A role that ends by itself stops the
    /// others.
    pub(crate) async fn finished(mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut first_failure = None;
        while let Some(ended) = self.tasks.join_next().await {
            let failure = match ended {
                Ok((_, Ok(()))) => None,
                Ok((role, Err(failure))) => Some(anyhow::anyhow!("{role}: {failure}")),
                Err(panicked) => Some(anyhow::anyhow!("a role ended by itself: {panicked}")),
            };
            if let Some(failure) = failure {
                error!(%failure, "a role failed");
                first_failure.get_or_insert(failure);
            }
            shutdown.start();
        }
        first_failure.map_or(Ok(()), Err)
    }
}
