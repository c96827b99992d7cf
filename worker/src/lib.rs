//! One turn: a text comes from the inbound queue, the assistant answers, its answer leaves as parts. Also receipts.
//! This crate knows assistants and the two ports; it never calls a provider.

pub mod assistant;

mod identity;
mod receipts;
mod render;
mod session;
mod turn;

use std::sync::Arc;

use broker::{self, Stage};
use config::Config;
use integration::LONGEST_TURN;
use message::failure::Failure;
use message::shutdown::Shutdown;
use store::RetryingStore;
use work::Ports;
use work::RunOptions;

use crate::identity::Identity;
use crate::receipts::ReceiptHandler;
use crate::turn::TurnHandler;

/// Takes turns and records receipts until `shutdown`.
///
/// # Errors
/// When an assistant cannot be set up from its settings. An unreachable server is no error: it is waited for.
pub async fn run(config: &Config, ports: Ports, shutdown: Shutdown) -> Result<(), Failure> {
    let assistants = config
        .integrations
        .iter()
        .map(|one| Ok((one.id.clone(), assistant::open(&one.assistant)?)))
        .collect::<Result<_, Failure>>()?;
    let store = RetryingStore::new(ports.store.clone(), shutdown.clone());
    let turns = TurnHandler {
        integrations: config.integrations.clone(),
        assistants,
        identity: Identity::new(store.clone(), rand::random()),
        store: store.clone(),
        clock: ports.clock.clone(),
        longest_turn: LONGEST_TURN,
    };
    let receipts = ReceiptHandler::new(config.integrations.clone(), store, ports.clock.clone());
    let options = |stage| RunOptions {
        concurrency: config.worker.concurrency,
        progress: ports.progress.of(stage),
        store: Some(ports.store.clone()),
        heartbeats: ports.heartbeats.filter(|_| stage == Stage::Inbound),
    };
    let (turn_options, receipt_options) = (options(Stage::Inbound), options(Stage::Receipts));
    let Ports { broker, .. } = ports;
    tokio::join!(
        work::run(broker.clone(), Stage::Inbound, Arc::new(turns), turn_options, shutdown.clone()),
        work::run(broker, Stage::Receipts, Arc::new(receipts), receipt_options, shutdown),
    );
    Ok(())
}
