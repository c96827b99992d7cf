//! Three RabbitMQ nodes are lost in turn under traffic, leaders included. Traffic resumes within 15 s, none of our
//! processes is restarted, no accepted text is lost, and none is answered twice or out of order.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its figures are for people")]

use std::sync::Arc;
use std::time::Duration;

use simulator::{Answer, Simulator};
use tests::house::{Backend, Blueprint, House};
use tests::servers::{RabbitMqCluster, RabbitMqServer, RedisServer, Release};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const CONVERSATIONS: usize = 12;
const UNANSWERED: usize = 10;
const GOES_ON_WITHIN: Duration = Duration::from_secs(15);

struct Servers {
    rabbitmq: RabbitMqCluster,
    redis: RedisServer,
}

impl Servers {
    fn start(release: Release) -> Self {
        Self { rabbitmq: RabbitMqCluster::start(release).unwrap(), redis: RedisServer::start().unwrap() }
    }

    fn backend(&self) -> Backend {
        Backend::Servers { amqp: self.rabbitmq.urls(), redis: self.redis.url().to_owned() }
    }

    /// The number of queues that each node leads, as `node` reports it.
    fn leaders(&self, node: usize) -> Vec<usize> {
        let listed = self.rabbitmq.nodes()[node].ctl(&["list_queues", "--no-table-headers", "leader"]).unwrap();
        let leads = |port: &str| listed.lines().filter(|leader| leader.contains(port)).count();
        self.rabbitmq.nodes().iter().map(|node| leads(node.port())).collect()
    }

    /// Waits until all members of every queue are online again. Otherwise the loss of the next node would be the loss
    /// of two.
    fn await_members(&self) {
        let all = |node: &RabbitMqServer| {
            let listed = node.ctl(&["list_queues", "--no-table-headers", "name", "online"]).unwrap();
            listed.lines().all(|line| line.matches("@localhost").count() == 3)
        };
        while !all(&self.rabbitmq.nodes()[0]) {
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The longest time until `stop` in which the provider got no text.
async fn longest_gap(simulator: &Simulator, stop: &CancellationToken) -> Duration {
    let (mut longest, mut moved_at, mut count) = (Duration::ZERO, Instant::now(), 0);
    while !stop.is_cancelled() {
        sleep(Duration::from_millis(20)).await;
        longest = longest.max(moved_at.elapsed());
        let now = simulator.messages().len();
        if now > count {
            (moved_at, count) = (Instant::now(), now);
        }
    }
    longest
}

fn customer(conversation: usize) -> String {
    format!("+1303555{:04}", 4000 + conversation)
}

/// Texts numbers in a conversation until `stop`, with few of them ahead of the replies, so that the speed of the
/// machine does not matter. Returns their number.
async fn text(house: &House, conversation: usize, stop: &CancellationToken) -> usize {
    let mut number: usize = 1;
    while !stop.is_cancelled() {
        house.text(&customer(conversation), &number.to_string()).await;
        number += 1;
        house.replies(&customer(conversation), number.saturating_sub(UNANSWERED)).await;
        sleep(Duration::from_millis(100)).await;
    }
    number
}

/// Runs `break_nodes` under traffic. Returns the longest time in which no text moved.
async fn longest_gap_while(release: Release, break_nodes: impl FnOnce(&Servers) + Send + 'static) -> Duration {
    let servers = Arc::new(tokio::task::spawn_blocking(move || Servers::start(release)).await.unwrap());
    let house = House::open(Blueprint { workers: 2, ..Blueprint::new(servers.backend()) }).await;
    house.simulator.assistant().answer_with(|turn| Answer::text(turn.text.clone()));
    for conversation in 0..CONVERSATIONS {
        house.text(&customer(conversation), "0").await;
        house.replies(&customer(conversation), 1).await;
    }
    let (stop, stop_watching) = (CancellationToken::new(), CancellationToken::new());
    let breaking = async {
        let servers = Arc::clone(&servers);
        tokio::task::spawn_blocking(move || break_nodes(&servers)).await.unwrap();
        sleep(Duration::from_secs(2)).await;
        stop_watching.cancel();
        stop.cancel();
    };
    let texting = futures_util::future::join_all((0..CONVERSATIONS).map(|number| text(&house, number, &stop)));
    let watching = longest_gap(&house.simulator, &stop_watching);
    let (counts, (), gap) = tokio::join!(texting, breaking, watching);
    for (conversation, count) in counts.iter().enumerate() {
        let expected: Vec<_> = (0..*count).map(|number| number.to_string()).collect();
        assert_eq!(house.replies(&customer(conversation), *count).await, expected, "conversation {conversation}");
    }
    println!("{} texts answered, each once and in order", counts.iter().sum::<usize>());
    house.close(0).await;
    gap
}

/// Kills each node in turn and starts it again.
fn kill_each(servers: &Servers) {
    for (number, node) in servers.rabbitmq.nodes().iter().enumerate() {
        println!("killing node {number}; the nodes lead {:?} queues", servers.leaders(number));
        node.kill().unwrap();
        std::thread::sleep(Duration::from_secs(8));
        node.start_again().unwrap();
        servers.await_members();
    }
}

/// Freezes the node that leads most queues for 20 s; its connections stay open.
fn freeze_leader(servers: &Servers) {
    let leaders = servers.leaders(0);
    let most = (0..leaders.len()).max_by_key(|node| leaders[*node]).unwrap();
    println!("freezing node {most}; the nodes lead {leaders:?} queues");
    let node = &servers.rabbitmq.nodes()[most];
    node.freeze().unwrap();
    std::thread::sleep(Duration::from_secs(20));
    node.thaw().unwrap();
    std::thread::sleep(Duration::from_secs(10));
}

async fn goes_on(release: Option<Release>, break_nodes: impl FnOnce(&Servers) + Send + 'static) {
    // One cluster at a time: two would slow each other down, and the tests measure seconds.
    static TURN: Mutex<()> = Mutex::const_new(());
    let _turn = TURN.lock().await;
    let Some(release) = release else { return };
    let gap = longest_gap_while(release, break_nodes).await;
    println!("on {release:?} nothing moved for at most {gap:?}");
    assert!(gap < GOES_ON_WITHIN, "nothing moved for {gap:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_traffic_goes_on_when_any_node_of_a_newer_cluster_is_killed() {
    goes_on(Release::newer(), kill_each).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes more for a release that is not recommended for clusters"]
async fn g2_traffic_goes_on_when_any_node_is_killed() {
    goes_on(Some(Release::Usual), kill_each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_traffic_goes_on_when_a_node_of_a_newer_cluster_hangs() {
    goes_on(Release::newer(), freeze_leader).await;
}
