//! One supervised connection: connects, declares, and begins again after every loss.

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

/// How often the connection is looked at besides its events.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a queue that vanished stays away before we declare it again. RabbitMQ 3.10 moves a consumer whose queue is
/// already there again to the new one instead of cancelling it, and then never delivers to it.
const REDECLARE_AFTER: Duration = Duration::from_secs(1);
/// A connection that lived for less keeps its backoff: whatever ended it may do so again at once.
const LONG_ENOUGH: Duration = Duration::from_secs(10);
/// How many partitions may be tried on connections of their own at a time: each is a socket and a megabyte of buffers.
const MOST_ALONE: usize = 32;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For a service: it may put its number of partitions in force, and declares everything.
    Publish,
    Consume,
    /// For an operator's command, whose configuration may be another than the services': it changes nothing that they use.
    Replay,
    /// For a queue that may end its connection when it is consumed.
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
    /// Not there yet, or no longer: why, once that is known.
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

    /// Returns once `connection` is not, or no longer, the one to use: it is lost, or its place among those who live with
    /// our number of partitions is.
    pub(super) async fn gives_up(&self, connection: &Arc<Connection>) {
        let is_given_up = |state: &State| !matches!(state, State::Up(up) if Arc::ptr_eq(up, connection));
        // An error means that the runtime is ending.
        drop(self.state.clone().wait_for(is_given_up).await);
    }

    /// The turn to do what may end the connection: one at a time, so that it is known what ended it.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// A place among those that may have a connection of their own.
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
    /// Whether the queue that tells the number in force could not be consumed when that was last tried.
    is_place_sick: bool,
    /// The connection as soon as there is one, so that it is closed however its use ends.
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

    /// Connects and works until the connection is lost; tells how long there was one, and why it ended.
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

    /// Takes our place among those who live with our number of partitions, and declares what they use.
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

    /// Agrees on the number of partitions and takes our place. Without a place where the queue for it is sick: that ends
    /// connections, and must not keep the others' messages. A change of the number needs that queue to be well, and
    /// waits for longer than we need to take the place then.
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
        // In this order: whoever changes the number locks first and looks for us after that, so one of us sees the other.
        partitions::refuse_change(connection, &self.topology).await?;
        Ok(Ok(presence))
    }

    /// Returns once we may neither publish nor consume any more. A place that we lack is sought until then.
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

    /// Our place, once it can be had, on `connection`, one of its own. Tried again sooner than a change takes.
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

    /// Declares all; what a sick queue keeps from being declared is told and left for later.
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

/// A connection that is up, in the metrics.
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
