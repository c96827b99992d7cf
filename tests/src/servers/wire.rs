//! A wire between a client and a server, which a test cuts.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

/// A loopback address from which everything goes on to a server.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    cuts: watch::Sender<u64>,
    _forwarding: AbortOnDropHandle<()>,
}

impl Wire {
    /// A wire to the server at `url`, an AMQP one of the form that [`super::RabbitMqServer::url`] has.
    ///
    /// # Errors
    /// When the URL has no address, or no port is free.
    pub async fn to(url: &str) -> Result<Self> {
        let server = authority(url).context("the url names no address")?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let cuts = watch::Sender::new(0);
        let forwarding: JoinHandle<()> = tokio::spawn(forward(listener, server, cuts.clone()));
        Ok(Self { address, cuts, _forwarding: AbortOnDropHandle::new(forwarding) })
    }

    /// `url` with the wire's address instead of the server's.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        authority(url).map_or_else(String::new, |server| url.replacen(server, &self.address.to_string(), 1))
    }

    /// Ends every connection that goes through it, at whatever byte it is, and lets new ones through.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

fn authority(url: &str) -> Option<&str> {
    url.rsplit_once('@').and_then(|(_, rest)| rest.split('/').next())
}

async fn forward(listener: TcpListener, server: String, cuts: watch::Sender<u64>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let (server, mut cut) = (server.clone(), cuts.subscribe());
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(server).await else { return };
            tokio::select! {
                // What is left unread makes the kernel reset the connection.
                _ = cut.changed() => {}
                _ = copy_bidirectional(&mut near, &mut far) => {}
            }
        });
    }
}
