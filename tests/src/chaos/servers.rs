//! The servers of one site, and what happens to them.

use std::time::{Duration, Instant};

use super::fault::Kind;
use crate::servers::{RabbitMqCluster, RabbitMqServer, RedisServer, Release};

/// How long a broker stays short of memory.
const ALARM: Duration = Duration::from_secs(3);
/// How long a lost node of a cluster stays away.
const NODE_AWAY: Duration = Duration::from_secs(8);
/// How long a node that came back may take to catch up.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(120);

/// The servers of one site.
#[derive(Debug)]
pub(super) struct Servers {
    broker: Broker,
    /// The store.
    pub(super) redis: RedisServer,
}

#[derive(Debug)]
enum Broker {
    Node(RabbitMqServer),
    Cluster(RabbitMqCluster),
}

impl Servers {
    /// Starts both, RabbitMQ as three nodes of the newer release if `is_clustered`; blocks.
    pub(super) fn start(is_clustered: bool) -> Self {
        let broker = if is_clustered {
            Broker::Cluster(RabbitMqCluster::start(Release::Newer).expect("the cluster starts"))
        } else {
            Broker::Node(RabbitMqServer::start().expect("RabbitMQ starts"))
        };
        Self { broker, redis: RedisServer::start().expect("Redis starts") }
    }

    /// Where the broker's nodes are.
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

    /// Ends the broker with `kill -9`, for good.
    pub(super) fn take_broker_away(&self) -> anyhow::Result<()> {
        self.node(0).kill()
    }

    /// Starts the broker again.
    pub(super) fn give_broker_back(&self) -> anyhow::Result<()> {
        self.node(0).start_again()
    }

    /// Loses a node, and gets it back; returns once all queues have all their members again.
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

    /// Makes `kind` happen, and returns once the servers are back.
    pub(super) fn strike(&self, kind: Kind) -> anyhow::Result<()> {
        let rabbitmq = self.node(0);
        match kind {
            Kind::BrokerRestart => rabbitmq.stop().and_then(|()| rabbitmq.start_again()),
            Kind::BrokerKill => rabbitmq.kill().and_then(|()| rabbitmq.start_again()),
            Kind::BrokerCut => rabbitmq.close_all_connections(),
            Kind::BrokerAlarm => {
                rabbitmq.set_memory_alarm(true)?;
                std::thread::sleep(ALARM);
                rabbitmq.set_memory_alarm(false)
            }
            Kind::StoreRestart => self.redis.stop().and_then(|()| self.redis.start_again()),
            Kind::StoreKill => self.redis.kill().and_then(|()| self.redis.start_again()),
            Kind::StoreCut => self.redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).map(drop),
            other => anyhow::bail!("{other:?} is nothing that happens to a server"),
        }
    }
}
