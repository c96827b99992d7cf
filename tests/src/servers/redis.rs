//! A Redis of one test's own, with an append-only file, to be broken as the test likes.

use anyhow::Result;
use tempfile::TempDir;

use super::run_script;

/// A private Redis; it ends, with all it holds, when dropped.
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

    /// Where to reach it, also after a restart.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops it as an operator would.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(&self) -> Result<()> {
        run_script("redis-stop", self.dir.path(), &[]).map(drop)
    }

    /// Ends it with `kill -9`.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&self) -> Result<()> {
        run_script("redis-kill", self.dir.path(), &[]).map(drop)
    }

    /// Starts it again from its append-only file.
    ///
    /// # Errors
    /// When it does not come up within 10 s.
    pub fn start_again(&self) -> Result<()> {
        run_script("redis-start", self.dir.path(), &[]).map(drop)
    }

    /// Runs one command, as `redis-cli` would, and returns the reply.
    ///
    /// # Errors
    /// When it is refused or the server is away.
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
