//! Scenario `scale`: what changes with the number of workers, and with how much waits, is stored, or is configured.
//!
//! Only cost for each message is compared, small and large by turns in one run: each large sample has a small one beside
//! it, and their ratio is what counts.

mod backlog;
mod conversations;
mod integrations;
mod side;
mod workers;

use tests::servers::{RabbitMqServer, RedisServer};

use self::side::Side;
use super::Plan;
use crate::backlog::Mix;
use crate::sheet::Sheet;

/// Room for a million sessions.
const REDIS_MEMORY: &str = "2gb";

/// Measures it.
pub(super) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("scale");
    let redis = tokio::task::block_in_place(RedisServer::start)?;
    redis.command(&["CONFIG", "SET", "maxmemory", REDIS_MEMORY])?;
    // It would rewrite its file while something is measured.
    redis.command(&["CONFIG", "SET", "auto-aof-rewrite-percentage", "0"])?;
    workers::measure(plan, redis.url(), &mut sheet).await?;
    // A RabbitMQ of their own, that ends with its many queues.
    let rabbitmq = tokio::task::block_in_place(|| RabbitMqServer::start_release(plan.release))?;
    let mut few = Side::worker(plan, rabbitmq.url(), redis.url(), Mix::STRANGERS).await?;
    integrations::measure(plan, &rabbitmq, redis.url(), &mut few, &mut sheet).await?;
    conversations::measure(plan, &rabbitmq, &redis, &mut few, &mut sheet).await?;
    backlog::measure(plan, &rabbitmq, redis.url(), &mut few, &mut sheet).await?;
    Ok(sheet)
}
