//! One supervised connection: connects, declares, and begins again after every loss.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::{Connection, Event};
use tokio::sync::{Notify, watch};

use super::node::Nodes;
use super::partitions::{self, OtherNumber, Presence};
use super::{declare, failure, repartition, version};
use crate::broker::Topology;
use crate::failure::{Failure, FailureKind};
use crate::retry::RetryPolicy;

/// How often the connection is looked at besides its events.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a queue that vanished stays away before we declare it again. RabbitMQ 3.10 moves a consumer whose queue is
/// already there again to the new one instead of cancelling it, and then never delivers to it.
const REDECLARE_AFTER: Duration = Duration::from_secs(1);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For a service: it may put its number of partitions in force, and declares everything.
    Publish,
    Consume,
    /// For an operator's command, whose configuration may be another than the services': it changes nothing that they use.
    Replay,
}

impl Purpose {
    fn connection_name(self) -> &'static str {
        match self {
            Self::Publish => "switchboard publisher",
            Self::Consume => "switchboard consumer",
            Self::Replay => "switchboard dead letters",
        }
    }
}

/// A supervised connection. Cheap to clone; the supervisor ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    redeclare: Arc<Notify>,
}

#[derive(Debug, Clone)]
enum State {
    /// Not there yet, or no longer: why, once that is known.
    Down(FailureKind, String),
    Up(Arc<Connection>),
}

impl Link {
    /// Starts connecting.
    pub(super) fn start(nodes: Nodes, topology: Topology, purpose: Purpose) -> Self {
        let (sender, state) = watch::channel(State::Down(FailureKind::Transient, "not connected yet".to_owned()));
        let redeclare = Arc::new(Notify::new());
        let supervisor = Supervisor { nodes, topology, purpose, state: sender, redeclare: Arc::clone(&redeclare) };
        drop(tokio::spawn(supervisor.run()));
        Self { state, redeclare }
    }

    /// The connection, as soon as there is one; `None` when there will never be one (the runtime is ending).
    pub(super) async fn up(&self) -> Option<Arc<Connection>> {
        let mut state = self.state.clone();
        match &*state.wait_for(|state| matches!(state, State::Up(_))).await.ok()? {
            State::Up(connection) => Some(Arc::clone(connection)),
            State::Down(..) => None,
        }
    }

    /// Returns once `connection` is not, or no longer, the one to use: it is lost, or its place among those who live with
    /// our number of partitions is.
    pub(super) async fn gives_up(&self, connection: &Arc<Connection>) {
        let is_given_up = |state: &State| !matches!(state, State::Up(up) if Arc::ptr_eq(up, connection));
        // An error means that the runtime is ending.
        drop(self.state.clone().wait_for(is_given_up).await);
    }

    /// Why there is no connection.
    pub(super) fn why_down(&self) -> Failure {
        match &*self.state.borrow() {
            State::Down(kind, why) => Failure::new(*kind, why.clone()),
            State::Up(_) => Failure::transient("the broker connection has only just come up"),
        }
    }

    /// Asks for missing queues and exchanges to be declared again.
    pub(super) fn redeclare(&self) {
        self.redeclare.notify_one();
    }
}

struct Supervisor {
    nodes: Nodes,
    topology: Topology,
    purpose: Purpose,
    state: watch::Sender<State>,
    redeclare: Arc<Notify>,
}

impl Supervisor {
    async fn run(mut self) {
        let mut backoff = RetryPolicy::RECONNECT.start();
        let mut logged = String::new();
        let mut is_first = true;
        loop {
            let state = self.state.clone();
            let (was_up, why) = tokio::select! {
                () = state.closed() => return,
                lost = self.work(&mut is_first) => lost,
            };
            if was_up {
                backoff.reset();
                logged.clear();
            }
            // Once for each outage and reason, not for each attempt, each node or each count in it.
            let text = why.to_string();
            let reason: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
            if reason != logged {
                tracing::warn!(connection = self.purpose.connection_name(), "broker is away: {text}");
                logged = reason;
            }
            self.state.send_replace(State::Down(why.kind, text));
            tokio::select! {
                () = self.state.closed() => return,
                () = tokio::time::sleep(backoff.next_delay(None)) => {}
            }
        }
    }

    /// Connects and works until the connection is lost; tells whether there was one, and why it ended.
    async fn work(&mut self, is_first: &mut bool) -> (bool, Failure) {
        let (connection, uri) = match self.nodes.connect(self.purpose.connection_name()).await {
            Ok(connected) => connected,
            Err(failure) => return (false, failure),
        };
        let connection = Arc::new(connection);
        let mut presence = match self.prepare(&connection).await {
            Ok(presence) => presence,
            Err(failure) => return (false, failure),
        };
        if std::mem::take(is_first) && self.purpose == Purpose::Consume {
            version::warn_if_old(&uri).await;
        }
        tracing::info!(connection = self.purpose.connection_name(), "broker connected");
        self.state.send_replace(State::Up(Arc::clone(&connection)));
        let lost = tokio::select! {
            lost = self.until_lost(&connection) => lost,
            () = presence.lost() => Failure::transient("the number of partitions in force may have changed"),
        };
        (true, lost)
    }

    /// Takes our place among those who live with our number of partitions, and declares what they use.
    async fn prepare(&self, connection: &Connection) -> Result<Presence, Failure> {
        let mut joined = partitions::join(connection, &self.topology).await?;
        if let (Err(OtherNumber(old)), Purpose::Publish) = (&joined, self.purpose) {
            repartition::change(connection, &self.topology, *old).await?;
            joined = partitions::join(connection, &self.topology).await?;
        }
        let presence = joined.map_err(|OtherNumber(other)| {
            let ours = self.topology.partitions;
            Failure::misconfigured(format!("broker.partitions is {ours} here but {other} is in force"))
        })?;
        self.declare(connection).await?;
        Ok(presence)
    }

    async fn declare(&self, connection: &Connection) -> Result<(), Failure> {
        match self.purpose {
            Purpose::Publish => declare::everything(connection, &self.topology).await,
            Purpose::Consume => Ok(()),
            Purpose::Replay => declare::dead_letters(connection, &self.topology).await,
        }
    }

    async fn until_lost(&self, connection: &Arc<Connection>) -> Failure {
        let mut events = connection.events_listener();
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => tracing::warn!(reason, "broker takes no messages"),
                    Some(Event::ConnectionUnblocked) => tracing::info!("broker takes messages again"),
                    Some(Event::Error(error)) if !connection.status().connected() => {
                        return failure::of_setup("the broker connection was lost", &error);
                    }
                    Some(_) => {}
                    None => return Failure::transient("the broker connection ended"),
                },
                () = self.redeclare.notified() => {
                    tokio::time::sleep(REDECLARE_AFTER).await;
                    if let Err(failure) = self.declare(connection).await {
                        return failure;
                    }
                }
                _ = look.tick() => {
                    if !connection.status().connected() {
                        return Failure::transient("the broker connection was lost");
                    }
                }
            }
        }
    }
}
