//! Strangers at the front door: clients that take time and room, and cannot prove that they are a provider.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The longest wait for all strangers to connect, even on the busiest machine.
const DEADLINE: Duration = Duration::from_secs(60);
const COMES_AGAIN_AFTER: Duration = Duration::from_secs(3);
const ARRIVES_WITHIN: Duration = Duration::from_secs(1);

/// A client that is not a provider, by its behaviour towards ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranger {
    /// Headers that never end.
    SlowHeaders,
    /// A body that never ends, for an integration that does not exist.
    SlowBodies,
    /// The same for an integration that exists, with a header that might be a proof.
    SlowBodiesWithProof,
    /// The same, with the smallest chunks.
    SlowChunksWithProof,
    /// One request after the other, without reading any answer.
    NeverReading,
    /// Many requests in one write, again and again.
    Pipelining,
}

impl Stranger {
    /// All kinds of strangers.
    pub const ALL: [Self; 6] = [
        Self::SlowHeaders,
        Self::SlowBodies,
        Self::SlowBodiesWithProof,
        Self::SlowChunksWithProof,
        Self::NeverReading,
        Self::Pipelining,
    ];

    /// The first bytes that it sends, to an ingress that has `integration`.
    fn beginning(self, integration: &str) -> Vec<u8> {
        let post = |id: &str, rest: &str| {
            format!(
                "POST /webhooks/{id}/messages HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-www-form-urlencoded\r\n\
                 x-twilio-signature: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n{rest}\r\n\r\n"
            )
        };
        let long = "content-length: 65536";
        match self {
            Self::SlowHeaders => format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "y".repeat(60 << 10)),
            Self::SlowBodies => post("nothing", long) + &"x".repeat(60 << 10),
            Self::SlowBodiesWithProof => post(integration, long) + &"x".repeat(60 << 10),
            Self::SlowChunksWithProof => {
                post(integration, "transfer-encoding: chunked") + &"1\r\nx\r\n".repeat(30 << 10)
            }
            Self::NeverReading => "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1000),
            Self::Pipelining => format!("GET /webhooks/{integration}/messages HTTP/1.1\r\nhost: a\r\n\r\n").repeat(100),
        }
        .into_bytes()
    }

    /// Plays the stranger on one connection until ingress ends it.
    ///
    /// # Errors
    /// When the connection is cut off.
    pub async fn play(self, address: &str, integration: &str) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&self.beginning(integration)).await?;
        let mut answers = [0; 4096];
        loop {
            match self {
                Self::NeverReading => {
                    stream.write_all(&self.beginning(integration)).await?;
                }
                Self::Pipelining => {
                    if stream.read(&mut answers).await? == 0 {
                        return Ok(());
                    }
                    stream.write_all(&self.beginning(integration)).await?;
                }
                Self::SlowChunksWithProof => stream.write_all(b"1\r\nx\r\n").await?,
                _ => stream.write_all(b"x").await?,
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Connects `count` strangers. Each connects again when it is cut off. They leave when the returned set is dropped.
///
/// # Panics
/// When they cannot all connect within a minute.
pub async fn besiege(stranger: Stranger, address: &str, integration: &str, count: usize) -> JoinSet<()> {
    let begun = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let (address, integration, begun) = (address.to_owned(), integration.to_owned(), Arc::clone(&begun));
        clients.spawn(async move {
            begun.fetch_add(1, Ordering::Relaxed);
            loop {
                // The connection was cut off; the error does not matter.
                drop(stranger.play(&address, &integration).await);
                sleep(COMES_AGAIN_AFTER).await;
            }
        });
    }
    let all_here = async {
        while begun.load(Ordering::Relaxed) < count {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, all_here).await.expect("all come in time");
    // Time for their first bytes to arrive.
    sleep(ARRIVES_WITHIN).await;
    clients
}
