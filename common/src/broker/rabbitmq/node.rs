//! The nodes of a cluster, tried in turn until one lets us in.

use std::time::Duration;

use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use uuid::Uuid;

use super::failure;
use crate::failure::Failure;

/// For the only node; half of it where there is another one to try.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Both ends drop a silent connection after about two of these, unless the URL says otherwise: a hanging node must not
/// hold traffic up for 15 s. <https://www.rabbitmq.com/docs/heartbeats> advises at least this.
const HEARTBEAT_SECONDS: u16 = 5;
/// Larger bodies travel in several frames. lapin keeps two buffers of 32 frames for each connection: with the server's
/// default of 128 KiB they would be most of an idle process's memory.
const FRAME_BYTES: u32 = 16 * 1024;

/// The nodes of one cluster, in an order of this process's own.
#[derive(Debug, Clone)]
pub(super) struct Nodes {
    urls: Vec<SecretString>,
    /// Which to try first.
    first: usize,
}

impl Nodes {
    /// The nodes at `urls`, shuffled by `id`, so that the processes spread over them.
    pub(super) fn new(mut urls: Vec<SecretString>, id: Uuid) -> Self {
        urls.sort_by_cached_key(|url| {
            Sha256::new().chain_update(id.as_bytes()).chain_update(url.expose_secret()).finalize()
        });
        Self { urls, first: 0 }
    }

    /// Connects to the first node that answers, beginning with the one after the last that did: that may be hanging.
    /// `name` is what operators see in the list of connections.
    pub(super) async fn connect(&mut self, name: &str) -> Result<(Connection, AMQPUri), Failure> {
        let mut last = Failure::misconfigured("no broker url is given");
        let connect_timeout = if self.urls.len() > 1 { CONNECT_TIMEOUT / 2 } else { CONNECT_TIMEOUT };
        for _ in 0..self.urls.len() {
            let Some(url) = self.urls.get(self.first) else { break };
            let connected = connect_to(url, name, connect_timeout).await;
            self.first = (self.first + 1) % self.urls.len();
            match connected {
                Ok(connected) => return Ok(connected),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }
}

/// What `url` says.
pub(super) fn uri(url: &str) -> Result<AMQPUri, Failure> {
    // The parser's error may quote the URL and its password.
    url.parse().map_err(|_| Failure::misconfigured("the broker url is no amqp url"))
}

async fn connect_to(
    url: &SecretString,
    name: &str,
    connect_timeout: Duration,
) -> Result<(Connection, AMQPUri), Failure> {
    let mut uri = uri(url.expose_secret())?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    uri.query.frame_max.get_or_insert(FRAME_BYTES);
    let address = format!("{}:{}", uri.authority.host, uri.authority.port);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = Connection::connect_uri(uri.clone(), properties);
    match timeout(connect_timeout, connecting).await {
        Ok(Ok(connection)) => Ok((connection, uri)),
        Ok(Err(error)) => Err(failure::of_setup(&format!("cannot connect to {address}"), &error)),
        Err(_) => Err(Failure::transient(format!("cannot connect to {address} in time"))),
    }
}

#[cfg(test)]
mod tests {
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
}
