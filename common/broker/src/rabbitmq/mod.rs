//! The broker on RabbitMQ: quorum queues with a single active consumer, publisher confirms, no plugin.
//!
//! lapin's own recovery stays off: it hides outages from the code that must decide about messages in flight. A
//! supervisor of ours connects, declares, works until anything fails, tears down and starts over. Publishing and
//! consuming have a connection each, because a broker short of memory stops reading from connections that publish.

mod channel;
mod closing;
mod dead_letter;
mod declare;
mod delivery;
mod depths;
mod failure;
mod link;
mod node;
mod partition;
mod partitions;
mod publish;
mod repartition;
mod routes;
mod standing;
mod step;
mod subscribe;
mod version;
mod walk;
mod wire;

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use link::{Link, Purpose};
use message::clock::Clock;
use message::failure::Failure;
use node::Nodes;
use publish::Publisher;
use secrecy::SecretString;
use standing::Standings;
use uuid::Uuid;
use walk::RabbitWalk;

use super::Topology;
use super::dead_letters::{DeadLetters, Walk};
use super::{Broker, Depths, Outgoing, Stage, Standing, Subscription};

/// Durable queues on a RabbitMQ node or cluster, version 3.10 or later. Cheap to clone.
///
/// Connects when first used, which must be inside a tokio runtime; disconnects once the last clone and the last
/// subscription are dropped.
#[derive(Debug, Clone)]
pub struct RabbitMq(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    nodes: Nodes,
    topology: Topology,
    /// Ranks this process among the consumers of each partition.
    consumer_id: Uuid,
    publisher: OnceLock<Arc<Publisher>>,
    replayer: OnceLock<Arc<Publisher>>,
    consuming: OnceLock<Link>,
    /// The state of each stage's partitions, in the order of [`Stage::ALL`].
    standings: [Arc<Standings>; 3],
    clock: Clock,
}

impl RabbitMq {
    /// Whether the AMQP client can parse `url`.
    #[must_use]
    pub fn is_url(url: &str) -> bool {
        node::uri(url).is_ok()
    }

    /// The broker at `urls`, the nodes of one cluster, with the queues of `topology`. Returns at once, also while the
    /// broker is away or while a partition count other than that of `topology` is in use: calls then fail with a
    /// failure that names the reason, and subscriptions wait.
    ///
    /// A message [delayed](super::Destination::Delayed) for `d` waits for [`super::delay_step`] of `d`.
    #[must_use]
    pub fn new(urls: Vec<SecretString>, topology: Topology) -> Self {
        Self::with_clock(urls, topology, Clock::system())
    }

    /// The same, with `clock` for the times that it writes into messages.
    #[must_use]
    pub fn with_clock(urls: Vec<SecretString>, topology: Topology, clock: Clock) -> Self {
        let consumer_id = Uuid::new_v4();
        let (publisher, replayer, consuming) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let nodes = Nodes::new(urls, consumer_id);
        let standings = Stage::ALL.map(|stage| Arc::new(Standings::new(stage)));
        Self(Arc::new(Shared { nodes, topology, consumer_id, publisher, replayer, consuming, standings, clock }))
    }

    fn publisher(&self) -> &Arc<Publisher> {
        self.0.publisher.get_or_init(|| self.publisher_for(Purpose::Publish))
    }

    fn replayer(&self) -> &Arc<Publisher> {
        self.0.replayer.get_or_init(|| self.publisher_for(Purpose::Replay))
    }

    fn publisher_for(&self, purpose: Purpose) -> Arc<Publisher> {
        let link = Link::start(self.0.nodes.clone(), self.0.topology.clone(), purpose);
        Arc::new(Publisher::new(link, self.0.topology.clone(), self.0.clock.clone()))
    }

    fn standings(&self, stage: Stage) -> &Arc<Standings> {
        let [inbound, outbound, receipts] = &self.0.standings;
        match stage {
            Stage::Inbound => inbound,
            Stage::Outbound => outbound,
            Stage::Receipts => receipts,
        }
    }

    fn consuming(&self) -> &Link {
        let start = || Link::start(self.0.nodes.clone(), self.0.topology.clone(), Purpose::Consume);
        self.0.consuming.get_or_init(start)
    }
}

#[async_trait]
impl Broker for RabbitMq {
    async fn publish(&self, messages: &[Outgoing]) -> Result<(), Failure> {
        self.publisher().publish(messages).await
    }

    fn subscribe(&self, stage: Stage, prefetch: u16) -> Box<dyn Subscription> {
        let consumer = subscribe::Consumer {
            link: self.consuming().clone(),
            nodes: self.0.nodes.clone(),
            standings: Arc::clone(self.standings(stage)),
            publisher: Arc::clone(self.publisher()),
            topology: self.0.topology.clone(),
            id: self.0.consumer_id,
            stage,
            prefetch: prefetch.max(1),
        };
        Box::new(consumer.start())
    }

    fn partitions(&self, stage: Stage) -> u16 {
        self.0.topology.partitions_of(stage)
    }

    fn standing(&self, stage: Stage) -> Option<Standing> {
        self.standings(stage).sum()
    }

    async fn depths(&self) -> Result<Depths, Failure> {
        self.publisher().depths().await
    }

    async fn check(&self) -> Result<(), Failure> {
        self.publisher().check().await
    }
}

#[async_trait]
impl DeadLetters for RabbitMq {
    async fn open(&self, stage: Option<Stage>) -> Result<Box<dyn Walk>, Failure> {
        let (link, publisher) = (self.consuming().clone(), Arc::clone(self.replayer()));
        Ok(Box::new(RabbitWalk::open(link, publisher, self.0.topology.clone(), stage).await?))
    }
}
