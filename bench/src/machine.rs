//! The conditions of a run. Its figures mean nothing without them.

use std::process::Command;
use std::thread;

use anyhow::Context as _;
use lapin::uri::AMQPUri;
use serde::Serialize;
use tests::servers::shared_redis_url;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The conditions of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Conditions {
    /// The date, as given by the caller.
    pub(crate) date: String,
    /// The commit, with `-dirty` if files were changed.
    pub(crate) commit: String,
    /// Processor cores.
    pub(crate) cores: usize,
    /// RabbitMQ's versions, in the order of the measurements.
    pub(crate) rabbitmq: Vec<String>,
    /// Redis's version.
    pub(crate) redis: String,
    /// Redis's durability settings.
    pub(crate) redis_durability: String,
    /// SQLite's version.
    pub(crate) sqlite: &'static str,
    /// The number of rounds.
    pub(crate) rounds: u32,
    /// The length of each measurement in seconds.
    pub(crate) seconds: f64,
}

impl Conditions {
    /// Asks the servers and the machine.
    ///
    /// # Errors
    /// When a server is away.
    pub(crate) fn now(rabbitmq: Vec<String>, rounds: u32, seconds: f64, date: &str) -> anyhow::Result<Self> {
        let (redis, redis_durability) = redis(shared_redis_url())?;
        Ok(Self {
            date: date.to_owned(),
            commit: commit(),
            cores: thread::available_parallelism()?.get(),
            rabbitmq,
            redis,
            redis_durability,
            sqlite: rusqlite::version(),
            rounds,
            seconds,
        })
    }
}

fn commit() -> String {
    let described = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    let described = described.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    described.map_or_else(|| "unknown".to_owned(), |text| String::from_utf8_lossy(&text).trim().to_owned())
}

/// The version of the RabbitMQ at `url`. The first frame of a handshake, which comes before any password is asked for,
/// contains the version. lapin does not expose it.
///
/// # Errors
/// When the answer is not one of RabbitMQ's.
pub(crate) async fn rabbitmq(url: &str) -> anyhow::Result<String> {
    let uri: AMQPUri = url.parse().map_err(|problem| anyhow::anyhow!("AMQP_URL: {problem}"))?;
    let mut stream = TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).await?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    let mut frame = [0; 1024];
    let read = stream.read(&mut frame).await?;
    let frame = frame.get(..read).unwrap_or_default();
    // A field's name, `S` for text, the text's length in four bytes, and the text.
    let name = b"\x07versionS\x00\x00\x00";
    let at = frame.windows(name.len()).position(|window| window == name);
    let text = at.and_then(|at| frame.get(at + name.len()..)).and_then(<[u8]>::split_first);
    let version = text.and_then(|(length, text)| text.get(..usize::from(*length)));
    let version = version.context("RabbitMQ does not tell its version")?;
    Ok(String::from_utf8_lossy(version).into_owned())
}

fn redis(url: &str) -> anyhow::Result<(String, String)> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let told: String = redis::cmd("INFO").arg("server").query(&mut connection)?;
    let version = told.lines().find_map(|line| line.strip_prefix("redis_version:"));
    let mut setting = |name: &str| -> anyhow::Result<String> {
        let (_, value): (String, String) = redis::cmd("CONFIG").arg("GET").arg(name).query(&mut connection)?;
        Ok(format!("{name} {value}"))
    };
    let durability = [setting("appendonly")?, setting("appendfsync")?, setting("maxmemory-policy")?].join(", ");
    Ok((version.context("Redis does not tell its version")?.to_owned(), durability))
}
