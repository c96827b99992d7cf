//! How long ago each call began whose outcome is unknown. Wall clocks are set, so what this process has seen is measured
//! in its own steady time; the ledger's mark is believed only for what was before.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::clock::Timestamp;
use common::message::MessageId;
use tokio::time::Instant;

use crate::ledger::Mark;

/// When so many are remembered, those are looked for that nobody forgot: of parts that went back to the broker while they
/// rested here, because a connection was lost.
const MANY: usize = 4096;
/// No part is at hand for longer, unless the store is away.
const LONGEST_AT_HAND: Duration = Duration::from_secs(60 * 60);

/// The calls that parts at hand wait for.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<HashMap<MessageId, Seen>>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    mark: Mark,
    /// How long ago it began when it was first seen here.
    before: Duration,
    first_seen: Instant,
}

impl Calls {
    /// How long ago the call of `part` with this `mark` began; `now` is the wall clock's time and `steady` ours.
    pub(crate) fn elapsed(&self, part: MessageId, mark: Mark, now: Timestamp, steady: Instant) -> Duration {
        let before = Duration::try_from(now.duration_since(mark.started_at)).unwrap_or_default();
        let fresh = Seen { mark, before, first_seen: steady };
        let mut all = self.all();
        if all.len() >= MANY && !all.contains_key(&part) {
            all.retain(|_, seen| steady.saturating_duration_since(seen.first_seen) < LONGEST_AT_HAND);
        }
        let seen = all.entry(part).or_insert(fresh);
        if seen.mark != mark {
            *seen = fresh;
        }
        seen.before + steady.saturating_duration_since(seen.first_seen)
    }

    /// Forgets the calls of `part`, which is not at hand any more.
    pub(crate) fn forget(&self, part: MessageId) {
        self.all().remove(&part);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<MessageId, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use common::message::IntegrationId;

    use super::*;

    #[test]
    fn g3_no_jump_of_the_clock_shortens_or_prolongs_the_wait_for_a_call() {
        let at = |hour: i64| Timestamp::from_second(hour * 3600).unwrap();
        let mark = |hour| Mark { first_attempt_at: at(hour), started_at: at(hour), times_replayed: 0 };
        let part = MessageId::of_provider(&IntegrationId::parse("support").unwrap(), "SM1");
        let (calls, began, second) = (Calls::default(), Instant::now(), Duration::from_secs(1));
        assert_eq!(calls.elapsed(part, mark(10), at(10), began), Duration::ZERO);
        for jumped in [4, 10, 16] {
            assert_eq!(calls.elapsed(part, mark(10), at(jumped), began + second), second, "at hour {jumped}");
        }
        let another = calls.elapsed(part, mark(9), at(10), began + second);
        assert_eq!(another, 3600 * second, "what another process began is judged by the wall clock");
        calls.forget(part);
        assert_eq!(calls.elapsed(part, mark(10), at(4), began), Duration::ZERO);
        assert_eq!(
            calls.elapsed(part, mark(10), at(4), began + second),
            second,
            "it passes although the clock was set back"
        );
    }

    #[test]
    fn g8_calls_of_parts_that_were_lost_are_not_remembered_for_ever() {
        let started_at = Timestamp::UNIX_EPOCH;
        let mark = Mark { first_attempt_at: started_at, started_at, times_replayed: 0 };
        let integration = IntegrationId::parse("support").unwrap();
        let (calls, began) = (Calls::default(), Instant::now());
        for second in 0..20_000 {
            let part = MessageId::of_provider(&integration, &second.to_string());
            calls.elapsed(part, mark, started_at, began + Duration::from_secs(second));
            assert!(calls.all().len() <= MANY, "at second {second}");
        }
    }
}
