//! The cost of a message and the memory of each role, as the backlog grows to a million. The small backlogs have a
//! RabbitMQ of their own, because one that holds a million messages is slower for all its clients.

use tests::servers::RabbitMqServer;

use super::super::{Plan, fresh_batch};
use super::side::{Side, Wanted, compare};
use crate::backlog::Mix;
use crate::child;
use crate::figure::Target;
use crate::load;
use crate::pace::Pace;
use crate::sheet::Sheet;

/// The small backlog.
const FEW: u64 = 1000;
/// The backlogs on the way to the large one.
const MORE: [u64; 2] = [10_000, 100_000];
/// The large backlog.
const MANY: u64 = 1_000_000;
const NAMES: [&str; 2] = ["backlog 1000", "backlog 1000000"];
/// Texts a second that arrive while ingress's memory is measured.
const ARRIVING_PER_S: f64 = 500.0;

/// Measures the backlogs.
pub(super) async fn measure(
    plan: &Plan,
    rabbitmq: &RabbitMqServer,
    redis_url: &str,
    few: &mut Side,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let large = tokio::task::block_in_place(|| RabbitMqServer::start_release(plan.release))?;
    let mut many = Side::worker(plan, large.url(), redis_url, Mix::STRANGERS).await?;
    few.behind = FEW;
    for behind in MORE {
        many.behind = behind;
        let names = ["backlog 1000", &format!("backlog {behind}")];
        compare(sheet, 1, names, [&mut *few, &mut many], Wanted::default()).await?;
    }
    many.behind = MANY;
    let wanted = Wanted { cost: Some(Target::AtMost(1.10)), memory: Some(Target::AtMost(1.2)) };
    compare(sheet, plan.rounds, NAMES, [&mut *few, &mut many], wanted).await?;
    ingress(plan, sheet, [few, &many]).await?;
    many.backlog.clear().await?;
    let mut few = Side::sender(plan, rabbitmq.url(), redis_url).await?;
    let mut many = Side::sender(plan, large.url(), redis_url).await?;
    (few.behind, many.behind) = (FEW, MANY);
    compare(sheet, plan.rounds, NAMES, [&mut few, &mut many], wanted).await
}

/// Ingress's memory while texts arrive and each side's backlog waits.
async fn ingress(plan: &Plan, sheet: &mut Sheet, sides: [&Side; 2]) -> anyhow::Result<()> {
    let names = NAMES.map(|with| format!("ingress's memory, {with}"));
    for _ in 0..plan.fewer_rounds() {
        for (name, side) in names.iter().zip(sides) {
            let role = side.installation.start("ingress").await?;
            let order = load::Order {
                target: side.installation.target()?,
                public_url: side.installation.public_url.clone(),
                connections: 16,
                pace: Pace::PerSecond(ARRIVING_PER_S),
                seconds: 1.0,
                batch: fresh_batch(),
            };
            let _posted: load::Outcome = child::run("load", &order).await?;
            sheet.note(name, "MiB", role.resident_mib()?);
            role.stop().await?;
        }
    }
    let [few, many] = &names;
    let compared = format!("ingress's memory, {} / {}", NAMES[1], NAMES[0]);
    sheet.ratio_as(compared, many, few, Some(Target::AtMost(1.2)))
}
