//! Discarding: the dead letters that a filter takes are gone for good.

use message::clock::Timestamp;
use message::failure::Failure;

use super::{DeadLetters, Filter, Letter};

/// Discards what `filter` takes, as of `now`, `limit` at most, and counts in `discarded`, which holds after a failure
/// too.
///
/// # Errors
/// When the broker is lost. What was counted is gone, the rest is still there.
pub async fn discard(
    dead: &dyn DeadLetters,
    filter: &Filter,
    limit: Option<u64>,
    now: Timestamp,
    discarded: &mut u64,
) -> Result<(), Failure> {
    let mut walk = dead.open(filter.stage).await?;
    let is_enough = |discarded: u64| limit.is_some_and(|limit| discarded >= limit);
    while !is_enough(*discarded)
        && let Some(letter) = walk.next().await?
    {
        let letter = Letter::read(letter);
        if filter.takes(&letter, now) && walk.discard(letter.place).await? {
            *discarded += 1;
        }
    }
    walk.close().await;
    Ok(())
}
