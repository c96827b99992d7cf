//! A RabbitMQ node of one test's own, to be broken as the test likes.

use anyhow::Result;
use tempfile::TempDir;

use super::run_script;

/// A private RabbitMQ node; it ends, with all it holds, when dropped. Its calls block for up to some seconds.
#[derive(Debug)]
pub struct RabbitMqServer {
    dir: TempDir,
    url: String,
}

impl RabbitMqServer {
    /// Starts a node.
    ///
    /// # Errors
    /// When RabbitMQ is not installed or does not come up within 90 s.
    pub fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let url = run_script("rabbitmq-start", dir.path(), &[])?;
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
        run_script("rabbitmq-stop", self.dir.path(), &[]).map(drop)
    }

    /// Ends it with `kill -9`.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&self) -> Result<()> {
        run_script("rabbitmq-kill", self.dir.path(), &[]).map(drop)
    }

    /// Starts it again with what it had on disk.
    ///
    /// # Errors
    /// When it does not come up within 90 s.
    pub fn start_again(&self) -> Result<()> {
        run_script("rabbitmq-start", self.dir.path(), &[]).map(drop)
    }

    /// Closes every client connection.
    ///
    /// # Errors
    /// When the node is not running.
    pub fn close_all_connections(&self) -> Result<()> {
        self.ctl(&["close_all_connections", "a test wants it"]).map(drop)
    }

    /// Runs `rabbitmqctl` with `arguments` and returns what it printed.
    ///
    /// # Errors
    /// When the command fails.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        run_script("rabbitmqctl", self.dir.path(), arguments)
    }

    /// Sets off (or clears) the memory alarm: the node then stops reading from whoever publishes.
    ///
    /// # Errors
    /// When the node is not running.
    pub fn set_memory_alarm(&self, is_set: bool) -> Result<()> {
        let watermark = if is_set { "0.0000001" } else { "0.9" };
        self.ctl(&["set_vm_memory_high_watermark", watermark]).map(drop)
    }
}

impl Drop for RabbitMqServer {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            tracing::warn!("a test's rabbitmq may still be running: {error:#}");
        }
    }
}
