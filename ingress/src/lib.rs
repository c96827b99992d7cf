//! The HTTP front door: verify, read, make durable, acknowledge. It touches nothing but the broker and its own disk, so
//! its answer never waits for an assistant, a provider or the store.

mod accept;
mod body;
mod connections;
mod durable;
mod problem;
mod refusals;
mod routes;
mod server;
mod spool;
mod stream;

use std::sync::Arc;

use accept::FrontDoor;
use broker::Broker;
use config::Config;
use durable::Durable;
use message::clock::Clock;
use message::failure::Failure;
use message::shutdown::Shutdown;
use spool::{Drain, Spool, WriterThread};
use tokio::net::TcpListener;
use work::spool_status::Intake;

/// Serves webhooks on `listener` until `shutdown`, then finishes the requests that are in flight and drains the spool
/// as far as the broker and the rest of the grace period allow. The spool's state is reported to `intake`.
///
/// # Errors
/// When `config` has no `ingress.public_url`: without it no Twilio signature can be checked. When the spool cannot be
/// opened, or its thread ended. The messages that were accepted are on disk, and the next start of ingress finds them.
pub async fn run(
    listener: TcpListener,
    config: &Config,
    broker: Arc<dyn Broker>,
    clock: Clock,
    intake: Arc<Intake>,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    if config.ingress.public_urls.is_empty() {
        let missing = "ingress.public_url is missing: set it to the URL that the provider posts to";
        return Err(Failure::misconfigured(missing));
    }
    let opened = open_spool(config, intake, &clock).await?;
    let spool = opened.as_ref().map(|(spool, _)| spool.clone());
    let durable = Durable::new(Arc::clone(&broker), spool);
    let front_door = Arc::new(FrontDoor::new(&config.integrations, &config.ingress.public_urls, durable, clock));
    let Some((spool, thread)) = opened else {
        serve(listener, front_door, shutdown).await;
        return Ok(());
    };
    // The drain goes on until the last request is answered: it may still add to the spool.
    let stop = Shutdown::new(shutdown.grace());
    let serving = async {
        let ended = tokio::select! {
            () = serve(listener, front_door, shutdown.clone()) => Ok(()),
            () = spool.tend() => Err(Failure::transient("the spool's thread has ended")),
        };
        stop.start();
        ended
    };
    let grace_over = async {
        shutdown.started().await;
        tokio::time::sleep(shutdown.grace()).await;
    };
    let ended = tokio::select! {
        (ended, ()) = async { tokio::join!(serving, Drain::new(spool.clone(), broker).run(stop.clone())) } => ended,
        () = grace_over => Ok(()),
    };
    spool.close(thread).await;
    ended
}

/// Answers requests until `shutdown`, and logs those that were refused.
async fn serve(listener: TcpListener, front_door: Arc<FrontDoor>, shutdown: Shutdown) {
    let router = routes::router(Arc::clone(&front_door));
    tokio::select! {
        () = server::serve(listener, router, shutdown) => {}
        () = front_door.refusals().sum_up() => {}
    }
}

/// The spool of this process; `None` when it is switched off and no older spool is on disk.
async fn open_spool(
    config: &Config,
    intake: Arc<Intake>,
    clock: &Clock,
) -> Result<Option<(Spool, WriterThread)>, Failure> {
    let (data_dir, limit_bytes, clock) = (config.data_dir.clone(), config.ingress.spool_limit_bytes, clock.clone());
    if limit_bytes == 0 && !spool::exists(&data_dir) {
        return Ok(None);
    }
    let open = move || Spool::open(&data_dir, limit_bytes, intake, clock);
    let opened = tokio::task::spawn_blocking(open).await;
    opened.map_err(|panicked| Failure::transient("the spool could not be opened").caused_by(panicked))?.map(Some)
}
