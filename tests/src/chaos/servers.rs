//! The servers of one site, and their faults.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::fault::Kind;
use crate::servers::{RabbitMqCluster, RabbitMqServer, RedisServer, Release, Wire};

/// The time for which a broker is short of memory.
const ALARM: Duration = Duration::from_secs(3);
/// The time for which a lost node of a cluster is away.
const NODE_AWAY: Duration = Duration::from_secs(8);
/// The longest wait until a node that came back has caught up.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(120);

/// The servers of one site.
#[derive(Debug)]
pub(super) struct Servers {
    broker: Broker,
    /// The store, and a second one if the first should be demoted.
    redis: Vec<RedisServer>,
    /// The wire to the store that is the primary.
    wire: Option<Wire>,
    /// The number of demotions so far.
    demotions: AtomicUsize,
}

#[derive(Debug)]
enum Broker {
    Node(RabbitMqServer),
    Cluster(RabbitMqCluster),
}

impl Servers {
    /// Starts RabbitMQ and Redis; blocks. RabbitMQ is three nodes of the newer release if `is_clustered`, and Redis has
    /// a replica if `is_replicated`.
    pub(super) fn start(is_clustered: bool, is_replicated: bool) -> Self {
        let broker = if is_clustered {
            Broker::Cluster(RabbitMqCluster::start(Release::Newer).expect("the cluster starts"))
        } else {
            Broker::Node(RabbitMqServer::start().expect("RabbitMQ starts"))
        };
        let mut redis = vec![RedisServer::start().expect("Redis starts")];
        let wire = is_replicated.then(|| {
            let replica = RedisServer::start().expect("Redis starts");
            replica.follow(&redis[0]).expect("the replica follows");
            redis.push(replica);
            Handle::current().block_on(Wire::to(redis[0].url())).expect("a port is free")
        });
        Self { broker, redis, wire, demotions: AtomicUsize::new(0) }
    }

    /// The URL of the store.
    pub(super) fn store_url(&self) -> String {
        let url = self.redis[0].url();
        self.wire.as_ref().map_or_else(|| url.to_owned(), |wire| wire.url(url))
    }

    /// Demotes the primary store and promotes the other one. Connections to the old primary stay open.
    fn demote_store(&self) -> anyhow::Result<()> {
        let turn = self.demotions.fetch_add(1, Relaxed);
        let (old, new) = (&self.redis[turn % 2], &self.redis[(turn + 1) % 2]);
        old.give_way_to(new)?;
        if let Some(wire) = &self.wire {
            wire.lead_to(new.url());
        }
        Ok(())
    }

    /// Stops `queue`, or suspends its leader.
    pub(super) fn make_sick(&self, queue: &str, hangs: bool) -> anyhow::Result<()> {
        if hangs { self.node(0).suspend_queue(queue) } else { self.node(0).stop_queue(queue) }
    }

    /// Heals what [`Servers::make_sick`] did.
    pub(super) fn make_well(&self, queue: &str, hangs: bool) -> anyhow::Result<()> {
        if hangs { self.node(0).resume_queue(queue) } else { self.node(0).restart_queue(queue) }
    }

    /// The URLs of the broker's nodes.
    pub(super) fn broker_urls(&self) -> Vec<&str> {
        self.nodes().iter().map(RabbitMqServer::url).collect()
    }

    fn nodes(&self) -> &[RabbitMqServer] {
        match &self.broker {
            Broker::Node(node) => std::slice::from_ref(node),
            Broker::Cluster(cluster) => cluster.nodes(),
        }
    }

    fn node(&self, which: usize) -> &RabbitMqServer {
        let nodes = self.nodes();
        &nodes[which % nodes.len()]
    }

    /// Ends the broker with `kill -9`. It stays away until [`Servers::give_broker_back`].
    pub(super) fn take_broker_away(&self) -> anyhow::Result<()> {
        self.node(0).kill()
    }

    /// Starts the broker again.
    pub(super) fn give_broker_back(&self) -> anyhow::Result<()> {
        self.node(0).start_again()
    }

    /// Kills a node and starts it again. Returns once all queues have all their members again.
    pub(super) fn lose_node(&self, which: usize) -> anyhow::Result<()> {
        let node = self.node(which);
        node.kill()?;
        std::thread::sleep(NODE_AWAY);
        node.start_again()?;
        let deadline = Instant::now() + CATCH_UP_DEADLINE;
        let members = self.nodes().len();
        let are_all_there = |listed: &str| listed.lines().all(|line| line.matches("@localhost").count() == members);
        while !are_all_there(&node.ctl(&["list_queues", "--no-table-headers", "name", "online"])?) {
            anyhow::ensure!(Instant::now() < deadline, "a node that came back does not catch up");
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }

    /// Applies the fault `kind`, and returns once the servers are back.
    pub(super) fn strike(&self, kind: Kind) -> anyhow::Result<()> {
        let (rabbitmq, store) = (self.node(0), &self.redis[0]);
        match kind {
            Kind::BrokerRestart => rabbitmq.stop().and_then(|()| rabbitmq.start_again()),
            Kind::BrokerKill => rabbitmq.kill().and_then(|()| rabbitmq.start_again()),
            Kind::BrokerCut => rabbitmq.close_all_connections(),
            Kind::BrokerAlarm => {
                rabbitmq.set_memory_alarm(true)?;
                std::thread::sleep(ALARM);
                rabbitmq.set_memory_alarm(false)
            }
            Kind::StoreRestart => store.stop().and_then(|()| store.start_again()),
            Kind::StoreKill => store.kill().and_then(|()| store.start_again()),
            Kind::StoreCut => store.command(&["CLIENT", "KILL", "TYPE", "normal"]).map(drop),
            Kind::StoreDemoted => self.demote_store(),
            other => anyhow::bail!("{other:?} is nothing that happens to a server"),
        }
    }
}
