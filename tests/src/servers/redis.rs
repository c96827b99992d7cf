//! A Redis with an append-only file for a single test, which may break it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::run_script;

/// The longest wait until a replica has all of its master's data.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(10);

/// A private Redis. It is removed with all its data when dropped.
#[derive(Debug)]
pub struct RedisServer {
    dir: TempDir,
    url: String,
}

impl RedisServer {
    /// Starts a server.
    ///
    /// # Errors
    /// When Redis is not installed or does not come up within 10 s.
    pub fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let url = run_script("redis-start", dir.path(), &[])?;
        Ok(Self { dir, url })
    }

    /// The URL of the server; it is the same after a restart.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the server as an operator would.
    ///
    /// # Errors
    /// When the server does not stop.
    pub fn stop(&self) -> Result<()> {
        run_script("redis-stop", self.dir.path(), &[]).map(drop)
    }

    /// Ends the server with `kill -9`.
    ///
    /// # Errors
    /// When the server does not end.
    pub fn kill(&self) -> Result<()> {
        run_script("redis-kill", self.dir.path(), &[]).map(drop)
    }

    /// Starts the server again from its append-only file.
    ///
    /// # Errors
    /// When the server does not come up within 10 s.
    pub fn start_again(&self) -> Result<()> {
        run_script("redis-start", self.dir.path(), &[]).map(drop)
    }

    /// Makes the server a replica of `master`. Returns once it has all of `master`'s data.
    ///
    /// # Errors
    /// When one of the two does not answer, or the copy takes more than 10 s.
    pub fn follow(&self, master: &Self) -> Result<()> {
        let (host, port) = master.address()?;
        self.command(&["REPLICAOF", host, port])?;
        self.catch_up(master)
    }

    /// Promotes `replica`, which has followed this server so far, and makes this server its replica. No data is lost,
    /// and connections to this server stay open: a write on one of them gets READONLY.
    ///
    /// # Errors
    /// When one of the two does not answer, or the change takes more than 10 s.
    pub fn give_way_to(&self, replica: &Self) -> Result<()> {
        self.command(&["CLIENT", "PAUSE", "10000", "WRITE"])?;
        replica.catch_up(self)?;
        replica.command(&["REPLICAOF", "NO", "ONE"])?;
        let (host, port) = replica.address()?;
        self.command(&["REPLICAOF", host, port])?;
        self.command(&["CLIENT", "UNPAUSE"])?;
        Ok(())
    }

    fn catch_up(&self, master: &Self) -> Result<()> {
        let deadline = Instant::now() + CATCH_UP_DEADLINE;
        loop {
            let is_up = self.fact("master_link_status")?.as_deref() == Some("up");
            if is_up && self.fact("slave_repl_offset")? == master.fact("master_repl_offset")? {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the replica does not catch up");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The value of `name` in `INFO replication`.
    fn fact(&self, name: &str) -> Result<Option<String>> {
        let info: String = redis::from_redis_value(self.command(&["INFO", "replication"])?)?;
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(value.map(str::to_owned))
    }

    fn address(&self) -> Result<(&str, &str)> {
        let rest = self.url.strip_prefix("redis://").and_then(|rest| rest.split('/').next());
        rest.and_then(|address| address.split_once(':')).context("the url names no address")
    }

    /// Runs one command, as `redis-cli` would, and returns the reply.
    ///
    /// # Errors
    /// When the command is refused or the server is away.
    pub fn command(&self, words: &[&str]) -> Result<redis::Value> {
        let mut connection = redis::Client::open(self.url.as_str())?.get_connection()?;
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        Ok(command.query(&mut connection)?)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            tracing::warn!("a test's redis may still be running: {error:#}");
        }
    }
}
