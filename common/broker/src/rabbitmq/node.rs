//! The nodes of a cluster, tried in turn until one accepts a connection.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use message::failure::Failure;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use uuid::Uuid;

use super::{failure, version};

/// How long connecting to the only node may take; half of it where there are several.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// AMQP heartbeat in seconds, unless the URL says otherwise. Both ends drop a silent connection after about two
/// heartbeats: a hanging node must not hold traffic up for 15 s. <https://www.rabbitmq.com/docs/heartbeats> advises at
/// least this.
const HEARTBEAT_SECONDS: u16 = 5;
/// Frame size limit in bytes; larger bodies take several frames. lapin keeps two buffers of 32 frames for each
/// connection: with the server's default of 128 KiB they would be most of an idle process's memory.
const FRAME_BYTES: u32 = 16 * 1024;

/// The nodes of one cluster, in an order of this process's own.
#[derive(Debug, Clone)]
pub(super) struct Nodes {
    urls: Vec<SecretString>,
    /// The node to try first.
    first: usize,
    /// The nodes that took too long when they were last tried. lapin cannot give up a handshake that the node does not
    /// answer: it keeps the connection and a thread for it. So such a node gets another connection only once it answers
    /// again.
    silent: BTreeSet<usize>,
}

impl Nodes {
    /// The nodes at `urls`, shuffled by `id`, so that the processes spread over them.
    pub(super) fn new(mut urls: Vec<SecretString>, id: Uuid) -> Self {
        urls.sort_by_cached_key(|url| {
            Sha256::new().chain_update(id.as_bytes()).chain_update(url.expose_secret()).finalize()
        });
        Self { urls, first: 0, silent: BTreeSet::new() }
    }

    /// Connects to the first node that answers, beginning after the one that was tried last: that one may be hanging.
    /// `name` is what operators see in the list of connections.
    pub(super) async fn connect(&mut self, name: &str) -> Result<(Connection, AMQPUri), Failure> {
        let connect_timeout = if self.urls.len() > 1 { CONNECT_TIMEOUT / 2 } else { CONNECT_TIMEOUT };
        self.connect_within(name, connect_timeout).await
    }

    async fn connect_within(
        &mut self,
        name: &str,
        connect_timeout: Duration,
    ) -> Result<(Connection, AMQPUri), Failure> {
        let mut last = Failure::misconfigured("no broker url is given");
        for _ in 0..self.urls.len() {
            let connected = self.connect_to(self.first, name, connect_timeout).await;
            self.first = (self.first + 1) % self.urls.len();
            match connected {
                Ok(connected) => return Ok(connected),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn connect_to(
        &mut self,
        node: usize,
        name: &str,
        connect_timeout: Duration,
    ) -> Result<(Connection, AMQPUri), Failure> {
        let mut uri = uri(self.urls.get(node).map_or("", |url| url.expose_secret()))?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        uri.query.frame_max.get_or_insert(FRAME_BYTES);
        let address = format!("{}:{}", uri.authority.host, uri.authority.port);
        if self.silent.contains(&node) {
            if !matches!(timeout(connect_timeout, version::ask(&uri)).await, Ok(Some(_))) {
                return Err(Failure::transient(format!("{address} does not answer")));
            }
            self.silent.remove(&node);
        }
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connecting = Connection::connect_uri(uri.clone(), properties);
        match timeout(connect_timeout, connecting).await {
            Ok(Ok(connection)) => Ok((connection, uri)),
            Ok(Err(error)) => Err(failure::of_setup(&format!("cannot connect to {address}"), &error)),
            Err(_) => {
                self.silent.insert(node);
                Err(Failure::transient(format!("cannot connect to {address} in time")))
            }
        }
    }
}

/// Parses `url`.
pub(super) fn uri(url: &str) -> Result<AMQPUri, Failure> {
    // The parser's error may quote the URL and its password.
    url.parse().map_err(|_| Failure::misconfigured("the broker url is no amqp url"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use message::failure::FailureKind;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn processes_spread_over_the_nodes() {
        let urls: Vec<SecretString> = ["amqp://a", "amqp://b", "amqp://c"].map(SecretString::from).to_vec();
        let mut first = std::collections::BTreeMap::new();
        for id in 0..300 {
            let nodes = Nodes::new(urls.clone(), Uuid::from_u128(id));
            assert_eq!(nodes.urls.len(), 3);
            *first.entry(nodes.urls[0].expose_secret().to_owned()).or_insert(0) += 1;
        }
        assert!(first.len() == 3 && first.values().all(|count| (60..=140).contains(count)), "{first:?}");
    }

    /// A node that accepts connections and never answers, like one whose machine is frozen. Returns its URL and the
    /// number of open connections.
    async fn hanging_node() -> (SecretString, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("amqp://guest:guest@{}/%2f", listener.local_addr().unwrap());
        let open = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let counted = Arc::clone(&counted);
                counted.fetch_add(1, SeqCst);
                tokio::spawn(async move {
                    drop(stream.read_to_end(&mut Vec::new()).await);
                    counted.fetch_sub(1, SeqCst);
                });
            }
        });
        (url.into(), open)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn g8_tries_do_not_pile_up_at_a_node_that_hangs() {
        let (url, open) = hanging_node().await;
        let mut nodes = Nodes::new(vec![url], Uuid::nil());
        for _ in 0..4 {
            let failure = nodes.connect_within("test", Duration::from_millis(300)).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Transient, "{failure}");
        }
        let one_is_left = async {
            while open.load(SeqCst) > 1 {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(Duration::from_secs(5), one_is_left).await.is_ok(), "{open:?} connections stay open");
    }
}
