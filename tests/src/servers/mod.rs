//! Private RabbitMQ and Redis servers for tests, started through `scripts/test-servers` on free loopback ports.
//!
//! A test that breaks a server starts one of its own ([`RabbitMqServer`], [`RedisServer`]). The other tests share one
//! of each: the one that `AMQP_URL` or `REDIS_URL` names, or a pair that ends with the test process.

mod port;
mod queue;
mod rabbitmq;
mod redis;
mod wire;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};

pub use self::port::free_port;
pub use self::rabbitmq::{RabbitMqCluster, RabbitMqServer, Release};
pub use self::redis::RedisServer;
pub use self::wire::Wire;

/// The URL of a RabbitMQ that all tests of this process may use, each with its own prefix.
///
/// # Panics
/// When no server is given and none can be started.
#[must_use]
pub fn shared_amqp_url() -> &'static str {
    &SHARED.amqp_url
}

/// The URL of a Redis that all tests of this process may use, each with its own prefix.
///
/// # Panics
/// When no server is given and none can be started.
#[must_use]
pub fn shared_redis_url() -> &'static str {
    &SHARED.redis_url
}

struct Shared {
    amqp_url: String,
    redis_url: String,
    /// A process that stops both servers when its standard input closes. That happens however the test process ends.
    _keeper: Option<Child>,
}

static SHARED: LazyLock<Shared> =
    LazyLock::new(|| shared().unwrap_or_else(|error| panic!("no servers to test against: {error:#}")));

fn shared() -> Result<Shared> {
    if let (Some(amqp_url), Some(redis_url)) = (environment("AMQP_URL"), environment("REDIS_URL")) {
        return Ok(Shared { amqp_url, redis_url, _keeper: None });
    }
    let until_end_of_input = r#"printf '%s\n%s\n' "$AMQP_URL" "$REDIS_URL" && cat >/dev/null"#;
    let mut keeper = Command::new(script())
        .args(["run", "sh", "-c", until_end_of_input])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("scripts/test-servers does not start")?;
    let output = keeper.stdout.take().context("the script's output is not piped")?;
    let mut lines = BufReader::new(output).lines();
    let mut url = || lines.next().context("scripts/test-servers ended early")?.context("its output is no text");
    Ok(Shared { amqp_url: url()?, redis_url: url()?, _keeper: Some(keeper) })
}

/// The value of the environment variable `name`, unless it is empty.
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment which servers to use and what to log")]
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/test-servers")
}

/// Runs a command of the script on the server in `dir`, and returns its output.
fn run_script(command: &str, dir: &Path, arguments: &[&str]) -> Result<String> {
    finish_script(Command::new(script()).arg(command).arg(dir).args(arguments), command)
}

fn finish_script(script: &mut Command, command: &str) -> Result<String> {
    let output = script.stdin(Stdio::null()).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command}: {}: {errors}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
