//! Sends the parts of replies: each exactly once as far as its provider can be asked, in order, in its time.

mod calls;
mod deliver;
mod inquiry;
mod ledger;
mod parked;
mod pause;
mod plan;
mod rate;
mod route;
mod segments;
mod turn;

use std::sync::Arc;

use broker::{self, Stage};
use config::Config;
use message::failure::Failure;
use message::shutdown::Shutdown;
use work::Ports;
use work::RunOptions;

pub use deliver::Deliverer;
pub use plan::Pace;

/// Sends until `shutdown`.
///
/// # Errors
/// When an integration's provider cannot be called at all, whatever is sent: its settings are wrong.
pub async fn run(config: &Config, ports: Ports, shutdown: Shutdown) -> Result<(), Failure> {
    let public_url = config.ingress.public_url();
    let deliverer = Deliverer::new(&config.integrations, public_url, &ports, shutdown.clone(), Pace::default())?;
    let options = RunOptions {
        concurrency: config.sender.concurrency,
        progress: ports.progress.of(Stage::Outbound),
        store: Some(ports.store),
        heartbeats: ports.heartbeats,
    };
    work::run(ports.broker, Stage::Outbound, Arc::new(deliverer), options, shutdown).await;
    Ok(())
}
