//! Replays dead letters: publishes them to their stage again, in order and at a limited rate. A replay may be
//! interrupted at any moment: each letter is published durably before it is removed. Running it again replays the rest,
//! and the ledgers recognise a letter that was published but not yet removed.

use std::time::Duration;

use message::clock::{Clock, Timestamp};
use message::failure::Failure;
use tokio::time::Instant;

use super::{DeadLetters, Filter, Letter, LetterTag, survey};
use crate::Outgoing;

/// Letters held in memory at a time, at most.
const HELD: u32 = 10_000;
/// Seconds for which a letter is held, at most and roughly: RabbitMQ takes back a delivery that is not settled within
/// 30 minutes.
const HELD_FOR_SECONDS: u32 = 600;
/// Batches per second: at a high rate several letters are published at once.
const STEPS_PER_SECOND: u32 = 10;
/// Letters published at once, at most. Bounds the duplicates after a `kill -9`.
const AT_ONCE: u32 = 100;

/// A replay that fell behind its rate goes faster until it has made up for this much.
const MADE_UP: Duration = Duration::from_secs(1);

/// What is to be replayed, and how.
#[derive(Debug, Clone)]
pub struct Order {
    /// Which dead letters to replay.
    pub filter: Filter,
    /// How many to replay at most; `None` for all.
    pub limit: Option<u64>,
    /// Letters per second; 0 for no limit.
    pub rate_per_second: u32,
    /// The operator who asks for it, such as `user@host`.
    pub by: String,
}

/// How far a replay got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Letters replayed.
    pub replayed: u64,
    /// Letters skipped because they are unreadable.
    pub unreadable: u64,
}

/// Replays the dead letters that `order` selects, oldest conversation turn first, and counts them in `progress`. The
/// counts are right after a failure too. A message that becomes a dead letter during the replay is left alone.
///
/// # Errors
/// When the broker is lost or has no room. Letters that were not replayed are still there: run it again.
pub async fn replay(
    dead: &dyn DeadLetters,
    order: &Order,
    clock: &Clock,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let began_at = clock.now();
    let mut pace = Pace::new(order.rate_per_second);
    loop {
        let left = order.limit.map_or(u64::MAX, |limit| limit.saturating_sub(progress.replayed));
        let most = usize::try_from(left.min(pace.held().into())).unwrap_or(usize::MAX);
        if most == 0 {
            return Ok(());
        }
        let is_first = progress.replayed == 0;
        let keep =
            |letter: Letter| (letter.envelope().is_some() && (is_first || is_old(&letter, began_at))).then_some(letter);
        let mut walk = dead.open(order.filter.stage).await?;
        let found = survey(&mut *walk, &order.filter, began_at, most, keep).await?;
        progress.unreadable = found.unreadable;
        let is_last = found.first.len() < most;
        let mut letters = found.first.into_iter();
        loop {
            let next = letters.by_ref().take(pace.at_once());
            let batch: Vec<(LetterTag, Outgoing)> =
                next.filter_map(|one| one.replayed(clock.now(), &order.by)).collect();
            if batch.is_empty() {
                break;
            }
            pace.wait(batch.len()).await;
            progress.replayed += walk.replay(&batch).await?;
        }
        walk.close().await;
        if is_last {
            return Ok(());
        }
    }
}

/// Whether it was there before the replay began: it was neither dead-lettered nor replayed since.
fn is_old(letter: &Letter, began_at: Timestamp) -> bool {
    let replays = letter.envelope().map_or(&[][..], |envelope| &envelope.replays);
    letter.died_at.is_none_or(|at| at < began_at) && replays.iter().all(|replay| replay.at < began_at)
}

/// Keeps a replay to its rate.
struct Pace {
    rate_per_second: u32,
    /// When the next letter may be published.
    next: Instant,
}

impl Pace {
    fn new(rate_per_second: u32) -> Self {
        Self { rate_per_second, next: Instant::now() }
    }

    /// How many to hold at a time.
    fn held(&self) -> u32 {
        if self.rate_per_second == 0 { HELD } else { self.rate_per_second.saturating_mul(HELD_FOR_SECONDS).min(HELD) }
    }

    /// How many to publish at a time.
    fn at_once(&self) -> usize {
        let count = if self.rate_per_second == 0 {
            AT_ONCE
        } else {
            (self.rate_per_second / STEPS_PER_SECOND).clamp(1, AT_ONCE)
        };
        usize::try_from(count).unwrap_or(1)
    }

    /// Waits until `count` more letters may be published. Time lost to a slow broker is made up for, up to [`MADE_UP`].
    async fn wait(&mut self, count: usize) {
        if self.rate_per_second == 0 {
            return;
        }
        tokio::time::sleep_until(self.next).await;
        let share = f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / f64::from(self.rate_per_second);
        let earliest = Instant::now().checked_sub(MADE_UP).unwrap_or(self.next);
        self.next = self.next.max(earliest) + Duration::from_secs_f64(share);
    }
}
