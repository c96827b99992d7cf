//! How long ago each call began whose outcome is unknown, in this process's steady time: wall clocks are set, and those
//! of two hosts differ. A call of another process counts from when its mark was first seen here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use message::MessageId;
use tokio::time::Instant;

use crate::ledger::Mark;

/// Above this many entries, stale ones are swept: calls of parts that went to another process.
const MANY: usize = 4096;
/// From this age on an entry is stale, 1 h: a part that waits for the outcome of a call comes back sooner, unless the
/// store is unreachable.
const LONGEST_AWAY: Duration = Duration::from_secs(60 * 60);

/// The calls that parts wait for.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<HashMap<MessageId, Seen>>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    mark: Mark,
    first_seen: Instant,
    /// When the first call began whose text may still appear at the provider, if it was made here.
    first_attempt: Option<Instant>,
}

impl Calls {
    /// Remembers that a call of ours for `part` begins now.
    pub(crate) fn begin(&self, part: MessageId, mark: Mark, now: Instant) {
        let mut all = self.all_but_lost(part, now);
        let earlier = all.get(&part).filter(|seen| seen.mark.first_attempt_at == mark.first_attempt_at);
        let is_first = mark.first_attempt_at == mark.started_at;
        let first_attempt = if is_first { Some(now) } else { earlier.and_then(|seen| seen.first_attempt) };
        all.insert(part, Seen { mark, first_seen: now, first_attempt });
    }

    /// How long ago the call of `part` with this `mark` began, as far as this process can tell. It is a lower bound.
    pub(crate) fn elapsed(&self, part: MessageId, mark: Mark, now: Instant) -> Duration {
        let mut all = self.all_but_lost(part, now);
        let fresh = Seen { mark, first_seen: now, first_attempt: None };
        let seen = all.entry(part).or_insert(fresh);
        if seen.mark != mark {
            *seen = fresh;
        }
        now.saturating_duration_since(seen.first_seen)
    }

    /// How long ago the first call of `part` began whose text may still appear at the provider; `None` when it was not
    /// made here.
    pub(crate) fn first_attempt_ago(&self, part: MessageId, mark: Mark, now: Instant) -> Option<Duration> {
        let seen = self.all().get(&part).copied().filter(|seen| seen.mark.first_attempt_at == mark.first_attempt_at)?;
        seen.first_attempt.map(|began| now.saturating_duration_since(began))
    }

    /// Forgets the calls of `part`, which is done.
    pub(crate) fn forget(&self, part: MessageId) {
        self.all().remove(&part);
    }

    /// All calls. Stale ones are swept first if `part` needs room.
    fn all_but_lost(&self, part: MessageId, now: Instant) -> MutexGuard<'_, HashMap<MessageId, Seen>> {
        let mut all = self.all();
        if all.len() >= MANY && !all.contains_key(&part) {
            all.retain(|_, seen| now.saturating_duration_since(seen.first_seen) < LONGEST_AWAY);
        }
        all
    }

    fn all(&self) -> MutexGuard<'_, HashMap<MessageId, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use message::IntegrationId;
    use message::clock::Timestamp;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn part(name: &str) -> MessageId {
        MessageId::of_provider(&IntegrationId::parse("support").unwrap(), name)
    }

    fn mark(first_attempt: i64, started: i64) -> Mark {
        let [first_attempt_at, started_at] = [first_attempt, started].map(|s| Timestamp::from_second(s).unwrap());
        Mark { first_attempt_at, started_at, times_replayed: 0 }
    }

    #[test]
    fn b5_the_call_of_another_process_counts_from_when_it_was_first_seen() {
        let (calls, now, part) = (Calls::default(), Instant::now(), part("SM1"));
        assert_eq!(calls.elapsed(part, mark(10, 10), now), Duration::ZERO, "whatever its host's clock says");
        assert_eq!(calls.elapsed(part, mark(10, 10), now + SECOND), SECOND);
        assert_eq!(calls.elapsed(part, mark(10, 20), now + SECOND), Duration::ZERO, "a later call");
        assert_eq!(calls.first_attempt_ago(part, mark(10, 20), now), None);
        calls.forget(part);
        assert_eq!(calls.elapsed(part, mark(10, 20), now + 2 * SECOND), Duration::ZERO);
    }

    #[test]
    fn b5_the_first_attempt_of_this_process_is_remembered_over_later_ones() {
        let (calls, now, part) = (Calls::default(), Instant::now(), part("SM1"));
        calls.begin(part, mark(10, 10), now);
        calls.begin(part, mark(10, 20), now + SECOND);
        assert_eq!(calls.elapsed(part, mark(10, 20), now + 3 * SECOND), 2 * SECOND);
        assert_eq!(calls.first_attempt_ago(part, mark(10, 20), now + 3 * SECOND), Some(3 * SECOND));
        calls.elapsed(part, mark(10, 30), now + 3 * SECOND);
        assert_eq!(calls.first_attempt_ago(part, mark(10, 30), now + 3 * SECOND), None, "another process tried, too");
        calls.begin(part, mark(40, 40), now + 4 * SECOND);
        assert_eq!(calls.first_attempt_ago(part, mark(40, 40), now + 5 * SECOND), Some(SECOND));
    }

    #[test]
    fn g8_calls_of_parts_that_were_lost_are_not_remembered_for_ever() {
        let (calls, began) = (Calls::default(), Instant::now());
        for second in 0..20_000 {
            calls.elapsed(part(&second.to_string()), mark(0, 0), began + Duration::from_secs(second));
            assert!(calls.all().len() <= MANY, "at second {second}");
        }
    }
}
