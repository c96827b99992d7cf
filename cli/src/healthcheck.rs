//! A health check for images that hold nothing but this binary: plain HTTP/1.1, no dependencies.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a health check may take, 4 s: container engines allow a few seconds.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Succeeds if a GET of `url` (`http://host:port/path`) answers 200.
pub(crate) async fn run(url: &str) -> anyhow::Result<()> {
    let answered = tokio::time::timeout(TIMEOUT, status_line(url)).await;
    let status_line = answered.context("no answer in time")??;
    if !status_line.contains(" 200 ") {
        bail!("not healthy: {status_line}");
    }
    Ok(())
}

async fn status_line(url: &str) -> anyhow::Result<String> {
    let address = url.strip_prefix("http://").context("expected a URL that starts with http://")?;
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let mut stream = TcpStream::connect(host).await.with_context(|| format!("cannot connect to {host}"))?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.lines().next().unwrap_or("no answer").to_owned())
}
