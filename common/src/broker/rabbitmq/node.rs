//! The nodes of a cluster, tried in turn until one lets us in.

use std::time::Duration;

use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;

use super::failure;
use crate::failure::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Both ends drop a silent connection after about two of these, unless the URL says otherwise.
const HEARTBEAT_SECONDS: u16 = 10;
/// Larger bodies travel in several frames. lapin keeps two buffers of 32 frames for each connection: with the server's
/// default of 128 KiB they would be most of an idle process's memory.
const FRAME_BYTES: u32 = 16 * 1024;

/// Connects to the first node that answers; `name` is what operators see in the list of connections.
pub(super) async fn connect(urls: &[SecretString], name: &str) -> Result<(Connection, AMQPUri), Failure> {
    let mut last = Failure::misconfigured("no broker url is given");
    for url in urls {
        match connect_to(url, name).await {
            Ok(connected) => return Ok(connected),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

/// What `url` says.
pub(super) fn uri(url: &str) -> Result<AMQPUri, Failure> {
    // The parser's error may quote the URL and its password.
    url.parse().map_err(|_| Failure::misconfigured("the broker url is no amqp url"))
}

async fn connect_to(url: &SecretString, name: &str) -> Result<(Connection, AMQPUri), Failure> {
    let mut uri = uri(url.expose_secret())?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    uri.query.frame_max.get_or_insert(FRAME_BYTES);
    let address = format!("{}:{}", uri.authority.host, uri.authority.port);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = Connection::connect_uri(uri.clone(), properties);
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => Ok((connection, uri)),
        Ok(Err(error)) => Err(failure::of_setup(&format!("cannot connect to {address}"), &error)),
        Err(_) => Err(Failure::transient(format!("cannot connect to {address} in time"))),
    }
}
