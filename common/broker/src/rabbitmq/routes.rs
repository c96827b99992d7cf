//! Tracks how each queue answers publishes: how many confirms it owes, whether it hangs, and why it refuses messages.
//!
//! RabbitMQ stops reading from a channel on which one queue owes 32 confirms, and from the whole connection after some
//! hundred messages more (3.10.8 and 4.3.6). So each queue is kept below that, and a hanging queue is left alone until
//! it has confirmed what it owes.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use lapin::{Channel, Confirmation, PublisherConfirm};
use message::failure::Failure;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::channel::ConfirmingChannel;
use super::wire::Route;
use crate::Topology;

/// How many messages may be unconfirmed at a time in one queue: below RabbitMQ's limit of 32.
const MOST_OWED: usize = 30;
/// A publish that is given up after this long marks its queue as hanging. An ordinary confirm takes milliseconds, and
/// an election about a second.
pub(super) const SLOW: Duration = Duration::from_secs(1);
/// How long a hanging queue is left alone, at least, until one message tries it again. Short at first: RabbitMQ 3.10.8
/// loses the confirm of a message that is published while a queue starts.
const LEFT_ALONE: Duration = Duration::from_secs(2);
/// Later on, a hanging queue is left alone for the time that it has hung, divided by this. A message that tries it
/// stays owed for as long again as the queue has hung: at this pace that is some six messages, however long it hangs.
const LEFT_ALONE_PART: u32 = 8;
/// How long a message that tries the queue has, before the next one may try.
const TRIAL: Duration = Duration::from_secs(10);
/// How many channels there are at most; further queues share them. RabbitMQ's `channel_max` is 2,047 by default.
const MOST_CHANNELS: usize = 1024;
/// How long a channel on which a queue owes a confirm is kept, at least. Closing it may cost the connection.
const CHANNEL_KEPT: Duration = Duration::from_secs(30);
/// A sick queue is healthy again once it confirms and has refused nothing for this long.
const WELL_AFTER: Duration = Duration::from_secs(5);
/// How long the known reason of a queue's refusals is reused, before RabbitMQ is asked again.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// What keeps a message from being published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is no connection.
    Away,
    /// The broker is short of memory or disk.
    Blocked,
    /// The connection or channel was lost before the confirm.
    Lost,
    /// The queue is at its length limit.
    Full,
    /// The queue refuses, and has no leader as far as RabbitMQ tells.
    NoLeader,
    /// The queue does not confirm.
    Hangs,
    /// There is no such queue.
    NoQueue,
}

impl Trouble {
    /// Its name in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Blocked => "blocked",
            Self::Lost => "lost",
            Self::Full => "full",
            Self::NoLeader => "no_leader",
            Self::Hangs => "unconfirmed",
            Self::NoQueue => "no_queue",
        }
    }

    /// The fault of the queue; `None` where the queue is not at fault.
    pub(super) fn of_queue(self) -> Option<&'static str> {
        match self {
            Self::Away | Self::Blocked | Self::Lost => None,
            Self::Full => Some("is full"),
            Self::NoLeader => Some("refuses messages: it has no leader"),
            Self::Hangs => Some("does not confirm messages"),
            Self::NoQueue => Some("is missing"),
        }
    }
}

/// All queues that were published to.
#[derive(Debug)]
pub(super) struct Routes {
    known: Mutex<Known>,
    /// Ends the tasks that wait for late confirms, which hold the connection open.
    closed: CancellationToken,
    _close: DropGuard,
}

#[derive(Debug, Default)]
struct Known {
    by_route: HashMap<Route, Arc<Answers>>,
    /// Several routes may lead to one queue.
    by_queue: HashMap<String, Arc<Answers>>,
    channels: Vec<Arc<ConfirmingChannel>>,
}

impl Default for Routes {
    fn default() -> Self {
        let closed = CancellationToken::new();
        Self { known: Mutex::default(), closed: closed.clone(), _close: closed.drop_guard() }
    }
}

impl Routes {
    pub(super) fn of(&self, topology: &Topology, route: &Route) -> Arc<Answers> {
        let mut known = lock(&self.known);
        if let Some(answers) = known.by_route.get(route) {
            return Arc::clone(answers);
        }
        let (queue, kind) = topology.queue_at(&route.exchange, &route.key);
        let answers = known.of_queue(queue, kind, &self.closed);
        known.by_route.insert(route.clone(), Arc::clone(&answers));
        answers
    }
}

impl Known {
    fn of_queue(&mut self, queue: String, kind: &'static str, closed: &CancellationToken) -> Arc<Answers> {
        if let Some(answers) = self.by_queue.get(&queue) {
            return Arc::clone(answers);
        }
        if self.channels.len() < MOST_CHANNELS {
            self.channels.push(Arc::default());
        }
        let channel = Arc::clone(&self.channels[self.by_queue.len() % self.channels.len()]);
        let answers = Arc::new(Answers::new(queue.clone(), kind, channel, closed.clone()));
        self.by_queue.insert(queue, Arc::clone(&answers));
        answers
    }
}

/// How one queue answers publishes.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) queue: String,
    /// The kind of its messages, as metrics name it.
    pub(super) kind: &'static str,
    pub(super) channel: Arc<ConfirmingChannel>,
    pub(super) places: Arc<Semaphore>,
    is_sick: AtomicBool,
    state: Mutex<State>,
    closed: CancellationToken,
}

#[derive(Debug)]
struct State {
    trouble: Option<(Trouble, Instant)>,
    known: Option<(Trouble, Instant)>,
    hangs: Option<Hang>,
}

/// A queue that does not confirm.
#[derive(Debug, Clone, Copy)]
struct Hang {
    since: Instant,
    /// When a message may try it again.
    next_try: Instant,
}

impl Hang {
    /// How long the queue is left alone, as of `now`.
    fn left_alone(self, now: Instant) -> Duration {
        LEFT_ALONE.max(now.saturating_duration_since(self.since) / LEFT_ALONE_PART)
    }
}

impl Answers {
    fn new(queue: String, kind: &'static str, channel: Arc<ConfirmingChannel>, closed: CancellationToken) -> Self {
        let state = State { trouble: None, known: None, hangs: None };
        let (places, is_sick) = (Arc::new(Semaphore::new(MOST_OWED)), AtomicBool::new(false));
        Self { queue, kind, channel, places, is_sick, state: Mutex::new(state), closed }
    }

    /// Fails at once while the queue hangs: it would only owe another confirm.
    pub(super) fn refuse_while_hanging(&self, now: Instant) -> Result<(), Failure> {
        self.refuse_unless(now, |_| ())
    }

    /// The same for a message about to be published. Once the queue may be tried again, one message passes.
    pub(super) fn refuse_or_try(&self, now: Instant) -> Result<(), Failure> {
        self.refuse_unless(now, |state| {
            state.hangs = state.hangs.map(|hang| Hang { next_try: now + TRIAL + hang.left_alone(now), ..hang });
        })
    }

    fn refuse_unless(&self, now: Instant, trying: impl FnOnce(&mut State)) -> Result<(), Failure> {
        if !self.is_sick.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut state = lock(&self.state);
        match state.hangs {
            Some(hang) if now < hang.next_try => {
                let seconds = now.saturating_duration_since(hang.since).as_secs();
                let what = format!("the queue {} has not confirmed a message for {seconds} s", self.queue);
                Err(Failure::transient(what))
            }
            _ => {
                trying(&mut state);
                Ok(())
            }
        }
    }

    /// Notes that it confirmed a message.
    pub(super) fn confirmed(&self, now: Instant) {
        if !self.is_sick.load(Ordering::Relaxed) {
            return;
        }
        let mut state = lock(&self.state);
        state.hangs = None;
        if state.trouble.is_some_and(|(_, at)| now.saturating_duration_since(at) >= WELL_AFTER) {
            state.trouble = None;
            self.is_sick.store(false, Ordering::Relaxed);
            tracing::info!(queue = self.queue, "a queue takes messages again");
        }
    }

    /// Notes the fault, and logs it once.
    pub(super) fn has(&self, trouble: Trouble, now: Instant) {
        let Some(what) = trouble.of_queue() else { return };
        let before = lock(&self.state).trouble.replace((trouble, now));
        self.is_sick.store(true, Ordering::Relaxed);
        if before.is_none_or(|(before, _)| before != trouble) {
            tracing::warn!(queue = self.queue, trouble = trouble.as_str(), "a queue {what}");
        }
    }

    /// The known reason of its refusals, if it is recent.
    pub(super) fn known(&self) -> Option<Trouble> {
        lock(&self.state).known.filter(|(_, at)| at.elapsed() < KNOWN_FOR).map(|(trouble, _)| trouble)
    }

    pub(super) fn knows(&self, trouble: Trouble) {
        lock(&self.state).known = Some((trouble, Instant::now()));
    }

    /// Marks the queue as hanging, unless it is already. Returns until when the channel is kept: for as long again as
    /// the queue has hung, at least `CHANNEL_KEPT`.
    fn hang(&self, since: Instant, now: Instant) -> Instant {
        self.has(Trouble::Hangs, now);
        let mut state = lock(&self.state);
        let mut hang = state.hangs.unwrap_or(Hang { since, next_try: now });
        // Of several messages in flight only the first one counts.
        if hang.next_try <= now {
            hang.next_try = now + hang.left_alone(now);
        }
        state.hangs = Some(hang);
        now + CHANNEL_KEPT.max(now.saturating_duration_since(hang.since))
    }

    fn hangs_no_more(&self) {
        lock(&self.state).hangs = None;
    }
}

/// A message that is not confirmed yet. If it is given up after `SLOW`, its queue hangs until the confirm comes after
/// all.
pub(super) struct Owed {
    confirm: Option<PublisherConfirm>,
    since: Instant,
    answers: Arc<Answers>,
    _place: OwnedSemaphorePermit,
    channel: Channel,
}

impl Owed {
    pub(super) fn new(
        confirm: PublisherConfirm,
        answers: Arc<Answers>,
        place: OwnedSemaphorePermit,
        channel: Channel,
    ) -> Self {
        Self { confirm: Some(confirm), since: Instant::now(), answers, _place: place, channel }
    }
}

impl Future for Owed {
    type Output = lapin::Result<Confirmation>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(confirm) = &mut self.confirm else { return Poll::Pending };
        let confirmed = std::task::ready!(Pin::new(confirm).poll(context));
        self.confirm = None;
        Poll::Ready(confirmed)
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        let is_slow = self.since.elapsed() >= SLOW && self.channel.status().connected();
        let (Some(confirm), true, Ok(runtime)) = (self.confirm.take(), is_slow, tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let until = self.answers.hang(self.since, Instant::now());
        let (answers, channel) = (Arc::clone(&self.answers), self.channel.clone());
        runtime.spawn(async move {
            let late = answers.closed.run_until_cancelled(timeout_at(until, confirm));
            match late.await {
                None => {}
                Some(Ok(Ok(Confirmation::Ack(_)))) => answers.confirmed(Instant::now()),
                Some(Ok(_)) => answers.hangs_no_more(),
                // The queue may be healthy and the confirm lost: the next message goes on another channel.
                Some(Err(_)) => answers.channel.leave(&channel),
            }
            drop(channel);
        });
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b1_a_queue_that_hangs_refuses_until_it_confirms_and_is_well_after_a_while() {
        let answers = Answers::new("sb.inbound.5".to_owned(), "inbound", Arc::default(), CancellationToken::new());
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        answers.refuse_while_hanging(began).unwrap();
        assert_eq!(answers.hang(began, after(10)), after(40));
        answers.hang(began, after(10));
        let refusal = answers.refuse_or_try(after(10)).unwrap_err().to_string();
        assert_eq!(refusal, "the queue sb.inbound.5 has not confirmed a message for 10 s");
        // The first delay, although several messages were in flight.
        answers.refuse_while_hanging(after(10)).unwrap_err();
        answers.refuse_while_hanging(after(13)).unwrap();
        answers.refuse_or_try(after(13)).unwrap();
        answers.refuse_or_try(after(14)).unwrap_err();
        assert_eq!(answers.hang(after(13), after(50)), after(100), "kept for as long again");
        let is_sick = || answers.is_sick.load(Ordering::Relaxed);
        answers.confirmed(after(60));
        answers.refuse_while_hanging(after(60)).unwrap();
        answers.has(Trouble::Full, after(70));
        answers.confirmed(after(71));
        assert!(is_sick(), "it refused a moment ago");
        answers.confirmed(after(75));
        assert!(!is_sick());
    }

    #[test]
    fn b1_what_tries_a_hanging_queue_leaves_it_places_however_long_it_hangs() {
        let answers = Answers::new("sb.inbound.5".to_owned(), "inbound", Arc::default(), CancellationToken::new());
        let began = Instant::now();
        let mut owed_until = vec![answers.hang(began, began + TRIAL)];
        for second in 11..24 * 3600 {
            let now = began + Duration::from_secs(second);
            owed_until.retain(|until| *until > now);
            assert!(owed_until.len() < MOST_OWED / 2, "{} are owed after {second} s", owed_until.len());
            if answers.refuse_or_try(now).is_ok() {
                owed_until.push(answers.hang(now, now + TRIAL));
                let soon = now + TRIAL + (now - began) / 4 + LEFT_ALONE;
                answers.refuse_while_hanging(soon).expect("a queue that is well again is found out soon");
            }
        }
    }

    #[test]
    fn several_routes_to_one_queue_share_what_it_may_owe_and_many_queues_share_channels() {
        let (routes, topology) = (Routes::default(), Topology::new("sb", 1));
        let of = |exchange: String, key: String| routes.of(&topology, &Route { exchange, key });
        let delay = || topology.delay(crate::Stage::Inbound, "30s");
        assert!(Arc::ptr_eq(&of(delay(), "1".to_owned()), &of(delay(), "2".to_owned())));
        let queues: Vec<_> = (0..MOST_CHANNELS + 9).map(|number| of(String::new(), number.to_string())).collect();
        let channels: std::collections::HashSet<_> = queues.iter().map(|one| Arc::as_ptr(&one.channel)).collect();
        assert_eq!(channels.len(), MOST_CHANNELS, "RabbitMQ allows no more than twice as many");
    }
}
