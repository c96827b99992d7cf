//! One supervised connection: connects, declares, and starts over after every loss.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::{Connection, Event};
use message::failure::{Failure, FailureKind};
use message::retry::RetryPolicy;
use tokio::sync::{Mutex, MutexGuard, Notify, Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;

use super::closing::{Current, close, close_current};
use super::node::Nodes;
use super::partitions::{self, OtherNumber, Presence};
use super::routes::lock;
use super::{declare, failure, repartition, version};
use crate::Topology;

/// How often the connection's status is checked, besides its events.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a queue that vanished stays away before it is declared again. If the queue is back too soon, RabbitMQ 3.10
/// moves its consumer to the new queue instead of cancelling it, and then never delivers to it.
const REDECLARE_AFTER: Duration = Duration::from_secs(1);
/// A connection that was up for less keeps its backoff: the cause of its end may end the next one at once.
const LONG_ENOUGH: Duration = Duration::from_secs(10);
/// How many partitions may be tried on connections of their own at a time: each costs a socket and a megabyte of
/// buffers.
const MOST_ALONE: usize = 32;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For a service: may change the partition count, and declares everything.
    Publish,
    Consume,
    /// For an operator's command. Its configuration may differ from that of the services, so it changes nothing that
    /// they use.
    Replay,
    /// For trying a queue that may end the connection when it is consumed.
    Try,
}

impl Purpose {
    /// What operators see in RabbitMQ's list of connections.
    pub(super) fn connection_name(self) -> &'static str {
        match self {
            Self::Publish => "switchboard publisher",
            Self::Consume => "switchboard consumer",
            Self::Replay => "switchboard dead letters",
            Self::Try => "switchboard trial of one queue",
        }
    }

    /// Its name in metrics.
    fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Consume => "consume",
            Self::Replay => "replay",
            Self::Try => "try",
        }
    }
}

/// A supervised connection. Cheap to clone; the supervisor ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    redeclare: Arc<Notify>,
    turn: Arc<Mutex<()>>,
    alone: Arc<Semaphore>,
}

#[derive(Debug, Clone)]
enum State {
    /// Not up yet, or no longer: the kind of the failure, and the reason once it is known.
    Down(FailureKind, String),
    Up(Arc<Connection>),
}

impl Link {
    /// Starts connecting.
    pub(super) fn start(nodes: Nodes, topology: Topology, purpose: Purpose) -> Self {
        let (sender, state) = watch::channel(State::Down(FailureKind::Transient, "not connected yet".to_owned()));
        let redeclare = Arc::new(Notify::new());
        let supervisor = Supervisor {
            nodes,
            topology,
            purpose,
            state: sender,
            redeclare: Arc::clone(&redeclare),
            is_place_sick: false,
            current: Arc::default(),
        };
        drop(tokio::spawn(supervisor.run()));
        Self { state, redeclare, turn: Arc::default(), alone: Arc::new(Semaphore::new(MOST_ALONE)) }
    }

    /// The connection, as soon as there is one; `None` when there will never be one (the runtime is ending).
    pub(super) async fn up(&self) -> Option<Arc<Connection>> {
        let mut state = self.state.clone();
        match &*state.wait_for(|state| matches!(state, State::Up(_))).await.ok()? {
            State::Up(connection) => Some(Arc::clone(connection)),
            State::Down(..) => None,
        }
    }

    /// Returns once `connection` is not, or no longer, the one to use: it is lost, or it no longer counts as a user of
    /// its partition count.
    pub(super) async fn gives_up(&self, connection: &Arc<Connection>) {
        let is_given_up = |state: &State| !matches!(state, State::Up(up) if Arc::ptr_eq(up, connection));
        // An error means that the runtime is ending.
        drop(self.state.clone().wait_for(is_given_up).await);
    }

    /// A lock for steps that may end the connection: one at a time, so that it is known which step ended it.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// A permit to try one partition on a connection of its own, see `MOST_ALONE`.
    pub(super) async fn place_alone(&self) -> Option<SemaphorePermit<'_>> {
        self.alone.acquire().await.ok()
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
    /// Whether the queue of the partition count could not be consumed when that was last tried.
    is_place_sick: bool,
    /// The connection as soon as there is one, so that it is closed however the work on it ends.
    current: Arc<Current>,
}

impl Supervisor {
    async fn run(mut self) {
        let mut backoff = RetryPolicy::RECONNECT.start();
        let mut logged = String::new();
        let mut is_first = true;
        loop {
            let (state, current) = (self.state.clone(), Arc::clone(&self.current));
            let (up_for, why) = tokio::select! {
                () = state.closed() => return close_current(&current).await,
                lost = self.work(&mut is_first) => lost,
            };
            close_current(&current).await;
            if up_for >= LONG_ENOUGH {
                backoff.reset();
                logged.clear();
                self.is_place_sick = false;
            }
            // Logged once per outage and reason, not per attempt, node, or number in the text.
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

    /// Connects and works until the connection is lost. Returns how long it was up, and why it ended.
    async fn work(&mut self, is_first: &mut bool) -> (Duration, Failure) {
        let (connection, uri) = match self.nodes.connect(self.purpose.connection_name()).await {
            Ok(connected) => connected,
            Err(failure) => return (Duration::ZERO, failure),
        };
        let connection = Arc::new(connection);
        *lock(&self.current) = Some(Arc::clone(&connection));
        let presence = match self.prepare(&connection).await {
            Ok(presence) => presence,
            Err(failure) => return (Duration::ZERO, failure),
        };
        if std::mem::take(is_first) && self.purpose == Purpose::Consume {
            version::warn_if_old(&uri).await;
        }
        tracing::info!(connection = self.purpose.connection_name(), "broker connected");
        let (since, _counted) = (Instant::now(), Counted::up(self.purpose));
        self.state.send_replace(State::Up(Arc::clone(&connection)));
        let lost = tokio::select! {
            lost = self.until_lost(&connection) => lost,
            lost = self.until_place_is_lost(presence) => lost,
        };
        (since.elapsed(), lost)
    }

    /// Registers the connection as a user of its partition count, and declares the queues.
    async fn prepare(&mut self, connection: &Connection) -> Result<Option<Presence>, Failure> {
        let mut joined = self.join(connection).await?;
        if let (Err(OtherNumber(old)), Purpose::Publish) = (&joined, self.purpose) {
            repartition::change(connection, &self.topology, *old).await?;
            joined = self.join(connection).await?;
        }
        let presence = joined.map_err(|OtherNumber(other)| {
            let ours = self.topology.partitions();
            Failure::misconfigured(format!("broker.partitions is {ours} here but {other} is in force"))
        })?;
        self.declare(connection).await?;
        Ok(presence)
    }

    /// Agrees on the partition count and takes a presence. Goes without a presence where the queue for it is sick:
    /// consuming from it ends connections, and must not hold up the messages of other queues. A change of the count
    /// needs that queue to be healthy, and then waits for longer than this connection needs to take its presence.
    async fn join(&mut self, connection: &Connection) -> Result<Result<Option<Presence>, OtherNumber>, Failure> {
        if let Err(OtherNumber(other)) = partitions::agree(connection, &self.topology).await? {
            if !self.topology.adopt(other) {
                return Ok(Err(OtherNumber(other)));
            }
            tracing::info!(partitions = other, "takes the number of partitions that is in force");
            if let Err(other) = partitions::agree(connection, &self.topology).await? {
                return Ok(Err(other));
            }
        }
        let presence = if self.is_place_sick {
            tracing::warn!(queue = self.topology.in_force(), "works without a place in this queue, which is sick");
            None
        } else {
            let taken = partitions::take_place(connection, &self.topology).await;
            self.is_place_sick = taken.is_err();
            Some(taken?)
        };
        // In this order: a process that changes the count locks first and looks for presences after that, so one of the
        // two sees the other.
        partitions::refuse_change(connection, &self.topology).await?;
        Ok(Ok(presence))
    }

    /// Returns once this connection may neither publish nor consume any more. Until then a missing presence is sought.
    async fn until_place_is_lost(&self, presence: Option<Presence>) -> Failure {
        let mut late = None;
        let mut presence = match presence {
            Some(presence) => presence,
            None => match self.late_place(&mut late).await {
                Ok(presence) => presence,
                Err(failure) => return failure,
            },
        };
        presence.lost().await;
        Failure::transient("the number of partitions in force may have changed")
    }

    /// Takes the missing presence on a connection of its own, which is left in `connection`. Retries sooner than a
    /// change of the count takes.
    async fn late_place(&self, connection: &mut Option<Connection>) -> Result<Presence, Failure> {
        let (mut nodes, mut backoff) = (self.nodes.clone(), RetryPolicy::NEAR.start());
        loop {
            tokio::time::sleep(backoff.next_delay(None)).await;
            let Ok((own, _)) = nodes.connect(Purpose::Try.connection_name()).await else { continue };
            if let Err(OtherNumber(other)) = partitions::agree(&own, &self.topology).await? {
                return Err(Failure::misconfigured(format!("{other} partitions were put in force")));
            }
            if let Ok(presence) = partitions::take_place(&own, &self.topology).await {
                partitions::refuse_change(&own, &self.topology).await?;
                tracing::info!(queue = self.topology.in_force(), "has its place in this queue again");
                *connection = Some(own);
                return Ok(presence);
            }
            close(&own).await;
        }
    }

    /// Declares what this connection's purpose needs. A sick queue that cannot be declared is logged and left for
    /// later.
    async fn declare(&self, connection: &Connection) -> Result<(), Failure> {
        let skipped = match self.purpose {
            Purpose::Publish => declare::everything(connection, &self.topology).await?,
            Purpose::Replay => declare::dead_letters(connection, &self.topology).await?,
            Purpose::Consume | Purpose::Try => None,
        };
        if let Some(failure) = skipped {
            tracing::warn!(%failure, "not everything could be declared");
        }
        Ok(())
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

/// Counts a connection in the metrics while it is up.
struct Counted(Purpose);

impl Counted {
    fn up(purpose: Purpose) -> Self {
        metrics::gauge!("switchboard_broker_connections", "purpose" => purpose.as_str()).increment(1.0);
        Self(purpose)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("switchboard_broker_connections", "purpose" => self.0.as_str()).decrement(1.0);
        metrics::counter!("switchboard_broker_connections_ended_total", "purpose" => self.0.as_str()).increment(1);
    }
}
