//! Scenario `scale`: the effect of more workers, and of more messages waiting, sessions stored or integrations
//! configured.
//!
//! Only the cost of each message is compared, small and large in turn within one run. Each large sample has a small one
//! beside it, and the ratio of the two is the result.

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

/// Redis's memory limit: room for a million sessions.
const REDIS_MEMORY: &str = "2gb";

/// Measures the scenario.
pub(super) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("scale");
    let redis = tokio::task::block_in_place(RedisServer::start)?;
    redis.command(&["CONFIG", "SET", "maxmemory", REDIS_MEMORY])?;
    // Redis would rewrite its file during a measurement.
    redis.command(&["CONFIG", "SET", "auto-aof-rewrite-percentage", "0"])?;
    workers::measure(plan, redis.url(), &mut sheet).await?;
    // A RabbitMQ of their own. It is removed at the end, with its many queues.
    let rabbitmq = tokio::task::block_in_place(|| RabbitMqServer::start_release(plan.release))?;
    let mut few = Side::worker(plan, rabbitmq.url(), redis.url(), Mix::STRANGERS).await?;
    integrations::measure(plan, &rabbitmq, redis.url(), &mut few, &mut sheet).await?;
    conversations::measure(plan, &rabbitmq, &redis, &mut few, &mut sheet).await?;
    backlog::measure(plan, &rabbitmq, redis.url(), &mut few, &mut sheet).await?;
    Ok(sheet)
}
