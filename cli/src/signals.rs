//! SIGTERM and SIGINT: the first one asks every role to finish, the second one exits at once. SIGHUP: secrets are read
//! again.

use std::time::Duration;

use message::shutdown::Shutdown;
use secret::{self, Secret};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// A second signal within 200 ms counts as the first: `timeout` and some supervisors signal a process and then its
/// whole group.
const ECHO: Duration = Duration::from_millis(200);

/// Starts `shutdown` at the first signal to stop and exits at the second.
///
/// # Errors
/// When the process cannot listen for signals.
pub(crate) fn listen(shutdown: Shutdown) -> std::io::Result<()> {
    let terminate = signal(SignalKind::terminate())?;
    let interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(stop(terminate, interrupt, shutdown));
    Ok(())
}

/// Reads the files of `secrets` again at each SIGHUP, which would otherwise end the process.
///
/// # Errors
/// When the process cannot listen for signals.
pub(crate) fn read_again(secrets: Vec<Secret>) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let changed = secret::read_again(secrets.clone()).await;
            info!(signal = "SIGHUP", changed, "secrets in files were read again");
        }
    });
    Ok(())
}

async fn stop(mut terminate: Signal, mut interrupt: Signal, shutdown: Shutdown) {
    let mut next = async || tokio::select! { _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" };
    let name = next().await;
    info!(
        signal = name,
        grace_ms = shutdown.grace().as_millis(),
        "finishes what is in flight; a second signal exits at once"
    );
    shutdown.start();
    let echoes = async {
        loop {
            next().await;
        }
    };
    drop(tokio::time::timeout(ECHO, echoes).await);
    let name = next().await;
    warn!(signal = name, "exits at once");
    std::process::exit(1);
}
