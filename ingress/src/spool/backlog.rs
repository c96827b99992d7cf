//! The bookkeeping that requests, the writer and the drain share: what lies in the spool, and which stripes must wait
//! behind it. It touches no file.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use work::spool_status::{Intake, SpoolState};

use super::STRIPES;
use super::done::Done;
use super::position::Position;
use super::segment::Contents;

/// The state of the spool, shared by requests, the writer and the drain.
#[derive(Debug)]
pub(super) struct Backlog {
    state: Mutex<State>,
    /// Woken when there is something new to drain.
    pub(super) grown: Notify,
    intake: Arc<Intake>,
}

#[derive(Debug)]
struct State {
    /// Oldest first; the last may still be written. Empty when, and only when, everything is drained.
    segments: VecDeque<Segment>,
    /// How many messages of each stripe are in the segments.
    waiting: Vec<u32>,
    /// How many messages of each stripe are on their way into a segment.
    coming: Vec<u32>,
    /// How many messages are on their way in all.
    under_way: usize,
    messages: u64,
    oldest_ms: Option<i64>,
    is_broker_away: bool,
    is_full: bool,
    is_failing: bool,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    /// Up to where it may be read, in bytes.
    end: u64,
    done: Done,
}

/// A stretch of a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) segment: u64,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// How much lies in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Depth {
    pub(super) messages: u64,
    /// Bytes that are not drained yet.
    pub(super) bytes: u64,
    /// When the oldest message was appended, in milliseconds since 1970.
    pub(super) oldest_ms: Option<i64>,
}

impl Backlog {
    pub(super) fn new(intake: Arc<Intake>) -> Self {
        let state = State {
            segments: VecDeque::new(),
            waiting: vec![0; usize::from(STRIPES)],
            coming: vec![0; usize::from(STRIPES)],
            under_way: 0,
            messages: 0,
            oldest_ms: None,
            is_broker_away: false,
            is_full: false,
            is_failing: false,
        };
        intake.set_spool(state.told());
        Self { state: Mutex::new(state), grown: Notify::new(), intake }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and reports the new one to the readiness check.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        self.intake.set_spool(state.told());
        result
    }

    /// Whether a message of `stripe` must not be published now: one of its conversation may be waiting here, or the
    /// broker is known to be away.
    pub(super) fn is_in_the_way_of(&self, stripe: u16) -> bool {
        let state = self.state();
        let holds = |counts: &[u32]| counts.get(usize::from(stripe)).is_some_and(|count| *count > 0);
        let is_used = !state.segments.is_empty() || state.under_way > 0;
        holds(&state.waiting) || holds(&state.coming) || (state.is_broker_away && is_used)
    }

    /// Sets whether the broker is away: not once it took a message, but when it took nothing at all.
    pub(super) fn set_broker_away(&self, is_away: bool) {
        self.state().is_broker_away = is_away;
    }

    /// What [`Backlog::set_broker_away`] last set.
    pub(super) fn is_broker_away(&self) -> bool {
        self.state().is_broker_away
    }

    /// A message of `stripe` is on its way into the spool: from here on its conversation waits behind it.
    pub(super) fn announce(&self, stripe: u16) {
        self.change(|state| {
            add(&mut state.coming, &[stripe]);
            state.under_way += 1;
        });
    }

    /// An announced message of `stripe` did not come.
    pub(super) fn withdraw(&self, stripe: u16) {
        self.change(|state| state.arrived(&[stripe]));
    }

    /// Segment `number` begins, or is taken over with `contents`.
    pub(super) fn begin_segment(&self, number: u64, contents: &Contents) {
        self.change(|state| {
            state.segments.push_back(Segment { number, end: contents.end, done: Done::default() });
            state.messages += u64::try_from(contents.stripes.len()).unwrap_or_default();
            state.oldest_ms = state.oldest_ms.or(contents.oldest_ms);
            add(&mut state.waiting, &contents.stripes);
        });
        self.grown.notify_one();
    }

    /// The last segment now ends at `end`, with announced messages of `stripes` more, appended at `appended_ms`.
    pub(super) fn grow(&self, end: u64, stripes: &[u16], appended_ms: i64) {
        self.change(|state| {
            if let Some(last) = state.segments.back_mut() {
                last.end = end;
            }
            state.messages += u64::try_from(stripes.len()).unwrap_or_default();
            add(&mut state.waiting, stripes);
            state.arrived(stripes);
            state.oldest_ms.get_or_insert(appended_ms);
            (state.is_full, state.is_failing) = (false, false);
        });
        self.grown.notify_one();
    }

    /// Marks `stretches`, which held messages of `stripes`, as done. Returns the segments that are finished, and the
    /// position up to which everything is done. Only the writer calls this, so no segment grows at the same time.
    pub(super) fn done(&self, stretches: &[Stretch], stripes: &[u16]) -> (Vec<u64>, Option<Position>) {
        self.change(|state| {
            state.messages = state.messages.saturating_sub(u64::try_from(stripes.len()).unwrap_or_default());
            for stretch in stretches {
                let segment = state.segments.iter_mut().find(|segment| segment.number == stretch.segment);
                segment.into_iter().for_each(|segment| segment.done.add(stretch.from, stretch.to));
            }
            let (mut finished, mut position) = (Vec::new(), None);
            state.segments.retain(|segment| {
                let is_left = segment.done.next(0) < segment.end;
                if !is_left {
                    finished.push(segment.number);
                    position = position.max(Some(Position { segment: segment.number, offset: segment.end }));
                }
                is_left
            });
            state.is_full &= finished.is_empty();
            remove(&mut state.waiting, stripes);
            state.settle_if_empty();
            (finished, state.segments.front().map(Segment::position).or(position))
        })
    }

    /// Segment `number` is lost, unread.
    pub(super) fn lose(&self, number: u64) {
        self.change(|state| {
            state.segments.retain(|segment| segment.number != number);
            state.settle_if_empty();
        });
    }

    /// The first stretch at or behind `position` with something left to do.
    pub(super) fn next(&self, position: Position) -> Option<Stretch> {
        let state = self.state();
        let behind = state.segments.iter().filter(|segment| segment.number >= position.segment);
        behind.map(|segment| segment.left(position)).find(|stretch| stretch.from < stretch.to)
    }

    /// The first offset in `segment`, at or behind `offset`, where something is left to do: the end of all that may be
    /// read, if nothing is.
    pub(super) fn next_in(&self, segment: u64, offset: u64) -> u64 {
        let state = self.state();
        let segment = state.segments.iter().find(|one| one.number == segment);
        segment.map_or(u64::MAX, |segment| segment.done.next(offset))
    }

    /// The oldest message was appended at `appended_ms`.
    pub(super) fn set_oldest(&self, appended_ms: i64) {
        self.change(|state| state.oldest_ms = Some(appended_ms));
    }

    /// Sets whether the spool was full when last tried.
    pub(super) fn set_full(&self, is_full: bool) {
        self.change(|state| state.is_full = is_full);
    }

    /// Sets whether the spool could not be written when last tried.
    pub(super) fn set_failing(&self, is_failing: bool) {
        self.change(|state| state.is_failing = is_failing);
    }

    pub(super) fn is_failing(&self) -> bool {
        self.state().is_failing
    }

    /// How many bytes the files of all segments have.
    pub(super) fn bytes_on_disk(&self) -> u64 {
        self.state().segments.iter().map(|segment| segment.end).sum()
    }

    pub(super) fn depth(&self) -> Depth {
        let state = self.state();
        let bytes = state.segments.iter().map(|segment| segment.end - segment.done.bytes()).sum();
        Depth { messages: state.messages, bytes, oldest_ms: state.oldest_ms }
    }
}

impl Segment {
    /// Up to where everything is done.
    fn position(&self) -> Position {
        Position { segment: self.number, offset: self.done.next(0) }
    }

    /// From the first byte that is left to do, at or behind `position`, to the end; empty if there is none.
    fn left(&self, position: Position) -> Stretch {
        let at = if position.segment == self.number { position.offset } else { 0 };
        Stretch { segment: self.number, from: self.done.next(at), to: self.end }
    }
}

impl State {
    fn arrived(&mut self, stripes: &[u16]) {
        remove(&mut self.coming, stripes);
        self.under_way = self.under_way.saturating_sub(stripes.len());
    }

    /// If nothing is left, resets the counts: messages that were lost to damage are no longer waited for either.
    fn settle_if_empty(&mut self) {
        if self.segments.is_empty() {
            self.waiting.fill(0);
            self.messages = 0;
            self.oldest_ms = None;
        }
    }

    fn told(&self) -> SpoolState {
        match (self.is_failing, self.is_full, self.segments.is_empty()) {
            (true, _, _) => SpoolState::Failing,
            (false, true, _) => SpoolState::Full,
            (false, false, true) => SpoolState::Idle,
            (false, false, false) => SpoolState::InUse(self.messages),
        }
    }
}

fn add(counts: &mut [u32], stripes: &[u16]) {
    for stripe in stripes {
        if let Some(count) = counts.get_mut(usize::from(*stripe)) {
            *count = count.saturating_add(1);
        }
    }
}

fn remove(counts: &mut [u32], stripes: &[u16]) {
    for stripe in stripes {
        if let Some(count) = counts.get_mut(usize::from(*stripe)) {
            *count = count.saturating_sub(1);
        }
    }
}
