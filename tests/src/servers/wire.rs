//! A wire between a client and a server, which a test can cut.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

/// A loopback address that forwards all bytes to a server.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    server: watch::Sender<String>,
    cuts: watch::Sender<u64>,
    _forwarding: AbortOnDropHandle<()>,
}

impl Wire {
    /// A wire to the server at `url`, which [`super::RabbitMqServer::url`] or [`super::RedisServer::url`] returns.
    ///
    /// # Errors
    /// When the URL has no address, or no port is free.
    pub async fn to(url: &str) -> Result<Self> {
        let server = authority(url).context("the url names no address")?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (server, cuts) = (watch::Sender::new(server), watch::Sender::new(0));
        let forwarding: JoinHandle<()> = tokio::spawn(forward(listener, server.subscribe(), cuts.clone()));
        Ok(Self { address, server, cuts, _forwarding: AbortOnDropHandle::new(forwarding) })
    }

    /// `url` with the wire's address instead of the server's.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        authority(url).map_or_else(String::new, |server| url.replacen(server, &self.address.to_string(), 1))
    }

    /// Leads new connections to the server at `url`. Open connections stay as they are.
    ///
    /// # Panics
    /// When the URL has no address.
    pub fn lead_to(&self, url: &str) {
        self.server.send_replace(authority(url).expect("the url names an address").to_owned());
    }

    /// Cuts every open connection, at whatever byte it is. New connections go through.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

fn authority(url: &str) -> Option<&str> {
    let (_, rest) = url.rsplit_once('@').or_else(|| url.split_once("://"))?;
    rest.split('/').next()
}

async fn forward(listener: TcpListener, server: watch::Receiver<String>, cuts: watch::Sender<u64>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let (server, mut cut) = (server.borrow().clone(), cuts.subscribe());
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(server).await else { return };
            tokio::select! {
                // The unread bytes make the kernel reset the connection.
                _ = cut.changed() => {}
                _ = copy_bidirectional(&mut near, &mut far) => {}
            }
        });
    }
}
