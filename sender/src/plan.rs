//! Decides the next step of a part: pure decisions from what the ledger, the provider and the clock say.

use std::time::Duration;

use broker::{Reason, ReasonName};
use message::failure::{Failure, FailureKind};
use message::retry::RetryPolicy;
use providers::UnknownOutcome;

use crate::inquiry::Finding;
use crate::ledger::{Mark, State};

/// After this many failures a part becomes a dead letter. With [`Pace::default`] that is about three hours of an
/// outage.
const MAX_ATTEMPTS: usize = 24;
/// The longest that a provider's hint parks a part, 24 h: most replies have expired by then.
const LONGEST_PARK: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the provider's list is read while a receipt is waited for, every 60 s.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The delays and deadlines of sending.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The delays between attempts; a provider's hint is their floor.
    pub backoff: RetryPolicy,
    /// How long a part may wait here in all before it is parked at the broker.
    pub in_lane: Duration,
    /// How much a number may send at once, in sending time at its rate.
    pub burst: Duration,
    /// How long after a send began its outcome may still become known: the provider may not list it yet, or another
    /// sender may be making the call. Longer than `call`.
    pub quiet: Duration,
    /// How long after a send began its receipt is waited for, when the provider lists a text that may be the part.
    pub doubt: Duration,
    /// How long one call to a provider may take.
    pub call: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            backoff: RetryPolicy { max: seconds(600), ..RetryPolicy::FAR },
            in_lane: seconds(60),
            burst: seconds(60),
            quiet: seconds(30),
            doubt: seconds(300),
            call: seconds(15),
        }
    }
}

/// Everything that decides about the next step.
#[derive(Debug)]
pub(crate) struct Situation<'a> {
    /// What the ledger says.
    pub(crate) state: &'a State,
    /// What the provider said when it was asked just now.
    pub(crate) finding: Option<Finding>,
    /// Whether a receipt may come that names the part.
    pub(crate) has_receipts: bool,
    /// What to do where the outcome stays unknown.
    pub(crate) unknown_outcome: UnknownOutcome,
    /// How long ago the call began that the ledger speaks of, when the provider was asked; zero if it speaks of none.
    pub(crate) called_ago: Duration,
    /// How often a person replayed the part.
    pub(crate) times_replayed: usize,
    /// How long ago the text that this part answers was accepted, or the text or the part was last replayed.
    pub(crate) age: Duration,
    /// How old that may be.
    pub(crate) max_age: Duration,
    /// See [`Pace::quiet`].
    pub(crate) quiet: Duration,
    /// See [`Pace::doubt`].
    pub(crate) doubt: Duration,
}

/// The next step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It was accepted before.
    Drop,
    /// It may have been sent: ask the provider.
    Ask,
    /// The provider has it, under this name.
    Accept(String),
    /// It may still appear at the provider: ask again after this long.
    Wait(Duration),
    /// Send it.
    Send,
    /// It becomes a dead letter: a person should see it.
    SetAside(Reason),
}

/// Which call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Sending it.
    Send,
    /// Asking what became of it.
    Ask,
}

/// What follows a failed call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again after this long, here.
    Wait(Duration),
    /// Try again after at least this long, from the broker.
    Park(Duration),
    /// Nothing: the customer wants no texts.
    OptedOut,
    /// It becomes a dead letter: a person should see it.
    SetAside(Reason),
}

/// The next step. Nothing is sent while it may have been sent before, and nothing that is too old.
pub(crate) fn next(situation: &Situation<'_>) -> Step {
    let mark = match situation.state {
        State::Accepted { .. } => return Step::Drop,
        State::Untouched => return send(situation),
        State::Sending(mark) => mark,
    };
    let [rest, hope] = [situation.quiet, situation.doubt].map(|wait| wait.saturating_sub(situation.called_ago));
    match &situation.finding {
        None => Step::Ask,
        Some(Finding::Found(name)) => Step::Accept(name.clone()),
        Some(Finding::Early(delay)) => Step::Wait((*delay).max(rest)),
        // It may still appear at the provider, or another sender may still be waiting for the answer.
        Some(_) if !rest.is_zero() => Step::Wait(rest),
        Some(Finding::Absent) => send(situation),
        Some(Finding::Unclear) if situation.has_receipts && !hope.is_zero() => Step::Wait(hope.min(LOOK_EVERY)),
        Some(Finding::Unclear) => unknown(situation, mark, "the provider lists a text that may be this one"),
        Some(Finding::Unsupported) => unknown(situation, mark, "the provider cannot be asked"),
    }
}

/// What follows when the outcome of the call with this `mark` stays unknown, and `why`.
fn unknown(situation: &Situation<'_>, mark: &Mark, why: &str) -> Step {
    match situation.unknown_outcome {
        UnknownOutcome::Resend => send(situation),
        // It became a dead letter after that call, and a person decided to send it again.
        UnknownOutcome::DeadLetter if mark.times_replayed < situation.times_replayed => send(situation),
        UnknownOutcome::DeadLetter => {
            Step::SetAside(Reason::new(ReasonName::UnknownOutcome, format!("the send's outcome is unknown: {why}")))
        }
    }
}

fn send(situation: &Situation<'_>) -> Step {
    if situation.age > situation.max_age {
        let detail = "the reply is older than reply_max_age";
        return Step::SetAside(Reason::new(ReasonName::Expired, detail));
    }
    Step::Send
}

/// What follows when the `attempts`th try failed, after it rested for `waited` in this process; `delay` is what the
/// backoff proposes.
pub(crate) fn after(
    call: Call,
    failure: &Failure,
    attempts: usize,
    waited: Duration,
    delay: Duration,
    in_lane: Duration,
) -> Next {
    if !failure.kind.is_retryable() {
        let reason = Reason::of(failure);
        return match call {
            Call::Ask => Next::SetAside(Reason::new(ReasonName::UnknownOutcome, reason.detail)),
            Call::Send if failure.kind == FailureKind::OptedOut => Next::OptedOut,
            Call::Send => Next::SetAside(reason),
        };
    }
    if attempts >= MAX_ATTEMPTS {
        return Next::SetAside(Reason::new(ReasonName::Exhausted, format!("{attempts} attempts, the last: {failure}")));
    }
    if waited.saturating_add(delay) <= in_lane { Next::Wait(delay) } else { Next::Park(delay.min(LONGEST_PARK)) }
}

#[cfg(test)]
mod tests {
    use message::clock::Timestamp;
    use proptest::prelude::*;

    use super::*;

    const QUIET: Duration = Duration::from_secs(30);
    const DOUBT: Duration = Duration::from_secs(300);
    const MAX_AGE: Duration = Duration::from_secs(3600);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn sending(started_at: i64) -> State {
        State::Sending(Mark { first_attempt_at: at(started_at), started_at: at(started_at), times_replayed: 0 })
    }

    fn accepted() -> State {
        State::Accepted { provider_id: "SM1".to_owned(), at: at(0) }
    }

    fn step(state: &State, finding: Option<Finding>, now: i64, unknown_outcome: UnknownOutcome) -> Step {
        let age = Duration::from_secs(now.unsigned_abs());
        let called_ago = match state {
            State::Sending(mark) => Duration::try_from(at(now).duration_since(mark.started_at)).unwrap_or_default(),
            State::Untouched | State::Accepted { .. } => Duration::ZERO,
        };
        next(&Situation {
            state,
            finding,
            has_receipts: true,
            unknown_outcome,
            called_ago,
            age,
            times_replayed: 0,
            max_age: MAX_AGE,
            quiet: QUIET,
            doubt: DOUBT,
        })
    }

    fn name(step: &Step) -> &'static str {
        match step {
            Step::Drop => "drop",
            Step::Ask => "ask",
            Step::Accept(_) => "accept",
            Step::Wait(_) => "wait",
            Step::Send => "send",
            Step::SetAside(reason) => reason.name.as_str(),
        }
    }

    #[test]
    fn the_next_step_follows_from_ledger_and_provider() {
        use UnknownOutcome::{DeadLetter, Resend};
        let found = || Some(Finding::Found("SM1".to_owned()));
        let cases = [
            (State::Untouched, None, 10, Resend, "send"),
            (State::Untouched, None, 3600, Resend, "send"),
            (State::Untouched, None, 3601, Resend, "expired"),
            (accepted(), None, 10, Resend, "drop"),
            (accepted(), None, 9999, Resend, "drop"),
            (sending(5), None, 10, Resend, "ask"),
            (sending(5), None, 9999, DeadLetter, "ask"),
            (sending(5), found(), 10, Resend, "accept"),
            (sending(5), found(), 9999, DeadLetter, "accept"),
            (sending(5), Some(Finding::Absent), 10, Resend, "wait"),
            (sending(5), Some(Finding::Absent), 10, DeadLetter, "wait"),
            (sending(5), Some(Finding::Absent), 35, DeadLetter, "send"),
            (sending(5), Some(Finding::Absent), 3601, Resend, "expired"),
            (sending(5), Some(Finding::Early(QUIET)), 3601, DeadLetter, "wait"),
            (sending(5), Some(Finding::Unclear), 10, DeadLetter, "wait"),
            (sending(5), Some(Finding::Unclear), 35, Resend, "wait"),
            (sending(5), Some(Finding::Unclear), 304, Resend, "wait"),
            (sending(5), Some(Finding::Unclear), 305, Resend, "send"),
            (sending(5), Some(Finding::Unclear), 305, DeadLetter, "unknown_outcome"),
            (sending(5), Some(Finding::Unclear), 3601, Resend, "expired"),
            (sending(5), Some(Finding::Unsupported), 10, Resend, "wait"),
            (sending(5), Some(Finding::Unsupported), 10, DeadLetter, "wait"),
            (sending(5), Some(Finding::Unsupported), 35, Resend, "send"),
            (sending(5), Some(Finding::Unsupported), 3601, Resend, "expired"),
            (sending(5), Some(Finding::Unsupported), 35, DeadLetter, "unknown_outcome"),
        ];
        for (state, finding, now, policy, expected) in cases {
            let case = format!("{state:?} {finding:?} {now} {policy:?}");
            assert_eq!(name(&step(&state, finding, now, policy)), expected, "{case}");
        }
    }

    #[test]
    fn the_quiet_time_runs_from_the_last_call() {
        assert_eq!(step(&sending(5), Some(Finding::Absent), 15, UnknownOutcome::Resend), Step::Wait(QUIET / 3 * 2));
    }

    #[test]
    fn what_follows_a_failure_depends_on_its_kind() {
        let cases = [
            (Call::Send, Failure::permanent("x").with_code("21211"), 1, "permanent"),
            (Call::Send, Failure::new(FailureKind::OptedOut, "x"), 1, "opted out"),
            (Call::Send, Failure::misconfigured("x"), 1, "misconfigured"),
            (Call::Ask, Failure::misconfigured("x"), 1, "unknown_outcome"),
            (Call::Ask, Failure::permanent("x"), 1, "unknown_outcome"),
            (Call::Send, Failure::transient("x"), 23, "wait"),
            (Call::Send, Failure::transient("x"), 24, "exhausted"),
            (Call::Send, Failure::unknown("x"), 24, "exhausted"),
            (Call::Send, Failure::unknown("x"), 1, "wait"),
            (Call::Ask, Failure::transient("x"), 1, "wait"),
        ];
        for (call, failure, attempts, expected) in cases {
            let next = after(call, &failure, attempts, Duration::ZERO, QUIET, 2 * QUIET);
            let found = match &next {
                Next::Wait(_) => "wait",
                Next::Park(_) => "park",
                Next::OptedOut => "opted out",
                Next::SetAside(reason) => reason.name.as_str(),
            };
            assert_eq!(found, expected, "{call:?} {failure} {attempts}");
        }
    }

    #[test]
    fn the_longest_hint_is_survived() {
        let failure = Failure::transient("x");
        let next = after(Call::Send, &failure, 1, Duration::from_secs(1), Duration::MAX, Duration::from_secs(60));
        assert_eq!(next, Next::Park(LONGEST_PARK));
    }

    fn finding() -> impl Strategy<Value = Option<Finding>> {
        prop_oneof![
            Just(None),
            Just(Some(Finding::Absent)),
            Just(Some(Finding::Unclear)),
            Just(Some(Finding::Early(QUIET))),
            Just(Some(Finding::Unsupported)),
            Just(Some(Finding::Found("SM1".to_owned()))),
        ]
    }

    proptest! {
        #[test]
        fn a_part_that_may_have_been_sent_is_never_sent_unasked_nor_too_old(
            finding in finding(), started in 0_i64..7200, now in 0_i64..7200, dead_letter in any::<bool>(),
        ) {
            let policy = if dead_letter { UnknownOutcome::DeadLetter } else { UnknownOutcome::Resend };
            if step(&sending(started), finding.clone(), now, policy) == Step::Send {
                prop_assert!(finding.is_some());
                prop_assert!(now <= 3600);
                prop_assert!(now - started >= 30);
                prop_assert!(finding == Some(Finding::Absent) || !dead_letter);
                prop_assert!(finding != Some(Finding::Unclear) || now - started >= 300);
            }
            prop_assert_eq!(step(&accepted(), finding, now, policy), Step::Drop);
        }

        #[test]
        fn a_lane_never_waits_longer_than_it_may(waited_s in 0_u64..200, delay_s in 0_u64..200, attempts in 1_usize..24) {
            let [waited, delay] = [waited_s, delay_s].map(Duration::from_secs);
            let in_lane = Duration::from_secs(60);
            let failure = Failure::transient("x");
            match after(Call::Send, &failure, attempts, waited, delay, in_lane) {
                Next::Wait(wait) => prop_assert!(wait == delay && waited + wait <= in_lane),
                Next::Park(park) => prop_assert!(park == delay && waited + park > in_lane),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
