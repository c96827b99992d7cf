//! Discards the dead letters that match a filter, for good.

use message::clock::Timestamp;
use message::failure::Failure;

use super::{DeadLetters, Filter, Letter};

/// Discards the dead letters that match `filter` as of `now`, at most `limit`, and counts them in `discarded`. The
/// count is right after a failure too.
///
/// # Errors
/// When the broker is lost. The letters counted are gone; the rest are still there.
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
        if filter.takes(&letter, now) && walk.discard(letter.tag).await? {
            *discarded += 1;
        }
    }
    walk.close().await;
    Ok(())
}
