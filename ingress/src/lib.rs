//! The HTTP front door: verify, read, publish with a confirm, acknowledge. It touches nothing but the broker, so its
//! answer never waits for an assistant, a provider or the store.

mod accept;
mod problem;
mod routes;
mod server;

use std::sync::Arc;

use common::broker::Broker;
use common::clock::Clock;
use common::config::Config;
use common::failure::Failure;
use common::shutdown::Shutdown;
use tokio::net::TcpListener;

use accept::FrontDoor;

/// Serves webhooks on `listener` until `shutdown`, then finishes the requests that are in flight.
///
/// # Errors
/// When `config` has no `ingress.public_url`: without it no Twilio signature can be checked.
pub async fn run(
    listener: TcpListener,
    config: &Config,
    broker: Arc<dyn Broker>,
    clock: Clock,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let public_url = config.ingress.public_url.as_deref().ok_or_else(|| {
        Failure::misconfigured("ingress.public_url is missing: set it to the URL that the provider posts to")
    })?;
    let front_door = Arc::new(FrontDoor::new(&config.integrations, public_url, broker, clock));
    server::serve(listener, routes::router(front_door), shutdown).await;
    Ok(())
}
