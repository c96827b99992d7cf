//! The cost of a text with one integration and with a thousand.

use std::fmt::Write as _;

use tests::servers::RabbitMqServer;

use super::super::Plan;
use super::side::{Side, Wanted, compare};
use crate::backlog::{Mix, integration};
use crate::load::webhook::{ACCOUNT_SID, AUTH_TOKEN};
use crate::role::Installation;
use crate::sheet::Sheet;

/// The large number of integrations.
const MANY: u64 = 1000;

/// Measures the integrations.
pub(super) async fn measure(
    plan: &Plan,
    rabbitmq: &RabbitMqServer,
    redis_url: &str,
    few: &mut Side,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let mix = Mix { integrations: MANY, ..Mix::STRANGERS };
    let mut many = Side::worker(plan, rabbitmq.url(), redis_url, mix).await?;
    configure(&many.installation)?;
    let names = ["1 integration", "1000 integrations"];
    compare(sheet, plan.fewer_rounds(), names, [few, &mut many], Wanted::default()).await
}

/// Adds the other integrations to the configuration.
fn configure(installation: &Installation) -> anyhow::Result<()> {
    let mut blocks = String::new();
    for number in 1..MANY {
        let (id, provider) = (integration(number), installation.provider);
        write!(
            blocks,
            r#"[[integrations]]
id = "{id}"
provider = "twilio"
[integrations.twilio]
account_sid = "{ACCOUNT_SID}"
auth_token = "{AUTH_TOKEN}"
base_url = "http://{provider}"
[integrations.assistant]
kind = "scripted"
file = "dialogue.toml"
"#
        )?;
    }
    installation.change("[[integrations]]\n", &format!("{blocks}[[integrations]]\n"))
}
