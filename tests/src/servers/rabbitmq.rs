//! A RabbitMQ node or cluster for a single test, which may break it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use super::{finish_script, run_script, script};

/// The release of RabbitMQ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The release of the other tests: the machine's own, unless `TEST_RABBITMQ` names another.
    Usual,
    /// The release that `scripts/newer-rabbitmq` installed.
    Newer,
}

impl Release {
    /// The newer release. If it is not installed, prints that the test is skipped and returns `None`.
    #[must_use]
    pub fn newer() -> Option<Self> {
        let installed = Command::new(script().with_file_name("newer-rabbitmq")).arg("path").output();
        if installed.is_ok_and(|output| output.status.success()) {
            return Some(Self::Newer);
        }
        // The message bypasses the test harness, which hides the output of a passing test.
        let skipped = "SKIPPED: no newer RabbitMQ here, `scripts/newer-rabbitmq install` makes one\n";
        let _shown = std::io::stderr().write_all(skipped.as_bytes());
        None
    }

    /// The newer release where it is installed, and the usual one elsewhere.
    #[must_use]
    pub fn best() -> Self {
        Self::newer().unwrap_or(Self::Usual)
    }

    fn start(self, command: &str, dir: &Path) -> Result<String> {
        let mut start = Command::new(script());
        if self == Self::Newer {
            start.env("TEST_RABBITMQ", "newer");
        }
        finish_script(start.arg(command).arg(dir), command)
    }
}

/// A private RabbitMQ node. It is removed with all its data when dropped. Its calls block for up to some seconds.
#[derive(Debug)]
pub struct RabbitMqServer {
    dir: PathBuf,
    url: String,
    /// The node's directory; `None` in a cluster, which removes it.
    _directory: Option<TempDir>,
}

impl RabbitMqServer {
    /// Starts a node of the usual release.
    ///
    /// # Errors
    /// When RabbitMQ is not installed or does not come up within 90 s.
    pub fn start() -> Result<Self> {
        Self::start_release(Release::Usual)
    }

    /// Starts a node of `release`.
    ///
    /// # Errors
    /// When it is not installed or does not come up within 90 s.
    pub fn start_release(release: Release) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let url = release.start("rabbitmq-start", directory.path())?;
        Ok(Self { dir: directory.path().to_owned(), url, _directory: Some(directory) })
    }

    /// The URL of the node; it is the same after a restart.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port, which is also part of the node's name.
    #[must_use]
    pub fn port(&self) -> &str {
        let port = self.url.rsplit_once(':').and_then(|(_, rest)| rest.split('/').next());
        port.unwrap_or_default()
    }

    /// Stops the node as an operator would.
    ///
    /// # Errors
    /// When the node does not stop.
    pub fn stop(&self) -> Result<()> {
        run_script("rabbitmq-stop", &self.dir, &[]).map(drop)
    }

    /// Ends the node with `kill -9`.
    ///
    /// # Errors
    /// When the node does not end.
    pub fn kill(&self) -> Result<()> {
        run_script("rabbitmq-kill", &self.dir, &[]).map(drop)
    }

    /// Starts the node again with its data on disk.
    ///
    /// # Errors
    /// When the node does not come up within 90 s.
    pub fn start_again(&self) -> Result<()> {
        run_script("rabbitmq-start", &self.dir, &[]).map(drop)
    }

    /// Freezes the node (SIGSTOP): it keeps its connections and answers nothing.
    ///
    /// # Errors
    /// When the node is not running.
    pub fn freeze(&self) -> Result<()> {
        run_script("rabbitmq-freeze", &self.dir, &[]).map(drop)
    }

    /// Resumes the node.
    ///
    /// # Errors
    /// When the node is not running.
    pub fn thaw(&self) -> Result<()> {
        run_script("rabbitmq-thaw", &self.dir, &[]).map(drop)
    }

    /// Closes every client connection.
    ///
    /// # Errors
    /// When the node is not running.
    pub fn close_all_connections(&self) -> Result<()> {
        self.ctl(&["close_all_connections", "a test wants it"]).map(drop)
    }

    /// Runs `rabbitmqctl` with `arguments` and returns its output.
    ///
    /// # Errors
    /// When the command fails.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        run_script("rabbitmqctl", &self.dir, arguments)
    }

    /// Sets or clears the memory alarm. While it is set, the node does not read from publishers.
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

/// Three private nodes that form a cluster. They are removed with all their data when dropped.
#[derive(Debug)]
pub struct RabbitMqCluster {
    nodes: Vec<RabbitMqServer>,
    _directory: TempDir,
}

impl RabbitMqCluster {
    /// Starts three nodes of `release` and joins them.
    ///
    /// # Errors
    /// When it is not installed or the nodes do not come up within 90 s.
    pub fn start(release: Release) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let urls = release.start("rabbitmq-cluster", directory.path())?;
        let node = |(number, url): (usize, &str)| RabbitMqServer {
            dir: directory.path().join(number.to_string()),
            url: url.to_owned(),
            _directory: None,
        };
        Ok(Self { nodes: (1..).zip(urls.lines()).map(node).collect(), _directory: directory })
    }

    /// The three nodes.
    #[must_use]
    pub fn nodes(&self) -> &[RabbitMqServer] {
        &self.nodes
    }

    /// The URLs of the nodes.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url.clone()).collect()
    }
}
