//! Scenario `recovery`: the time until texts move again after a restart of RabbitMQ, and the time to drain a backlog.

mod drain;
mod restart;

use super::Plan;
use crate::sheet::Sheet;

/// Measures the scenario.
pub(super) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("recovery");
    restart::measure(plan, &mut sheet).await?;
    drain::measure(plan, &mut sheet).await?;
    Ok(sheet)
}
