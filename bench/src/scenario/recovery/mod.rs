//! Scenario `recovery`: how soon texts move again after RabbitMQ was restarted, and how long a backlog takes to drain.

mod drain;
mod restart;

use super::Plan;
use crate::sheet::Sheet;

/// Measures it.
pub(super) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("recovery");
    restart::measure(plan, &mut sheet).await?;
    drain::measure(plan, &mut sheet).await?;
    Ok(sheet)
}
