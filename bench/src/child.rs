//! This program as a child process: it gets its order in one argument, and answers with one line of JSON.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The path of the running program on Linux.
pub(crate) const SELF: &str = "/proc/self/exe";

/// Runs the hidden subcommand `part` with `order` to its end and returns its answer.
///
/// # Errors
/// When the child fails. Its error message is on standard error.
pub(crate) async fn run<T: DeserializeOwned>(part: &str, order: &impl Serialize) -> anyhow::Result<T> {
    let mut command = Command::new(SELF);
    command.arg(part).arg(serde_json::to_string(order)?).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let output = command.spawn().context("cannot start a child process")?.wait_with_output().await?;
    ensure!(output.status.success(), "{part}: {}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("{part} answered strangely"))
}

/// In the child: runs `work` on the order and prints the answer.
///
/// # Errors
/// When `order` cannot be read, or `work` fails.
pub(crate) async fn answer<Order, Answer>(
    order: &str,
    work: impl AsyncFnOnce(Order) -> anyhow::Result<Answer>,
) -> anyhow::Result<()>
where
    Order: DeserializeOwned,
    Answer: Serialize,
{
    let order = serde_json::from_str(order).context("an order that cannot be read")?;
    println!("{}", serde_json::to_string(&work(order).await?)?);
    Ok(())
}

/// A child that serves until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    _child: Child,
    /// The address at which the child listens, read from its first line of output.
    pub(crate) address: String,
}

impl Server {
    /// Starts the hidden subcommand `part` and returns once it listens.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn start(part: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(SELF);
        command.arg(part).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot start a child process")?;
        let output = child.stdout.take().context("its output is not piped")?;
        let address = BufReader::new(output).lines().next_line().await?;
        Ok(Self { _child: child, address: address.with_context(|| format!("{part} did not start"))? })
    }
}
