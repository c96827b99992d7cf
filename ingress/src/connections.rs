//! The open connections, and the bytes that are held for them. Both are bounded, and neither bound keeps a new
//! connection out: the one whose client has kept us waiting the longest gives way.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

/// How long a connection keeps its place whatever it does, 250 ms: a client's request follows its connection in
/// milliseconds, but not in the same one. A thousand places take four thousand new connections a second.
const PATIENCE: Duration = Duration::from_millis(250);
/// How often a new connection checks whether there is a place, every 10 ms.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How much is open and held at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections.
    pub(crate) connections: usize,
    /// Bytes of requests that are not answered yet, of all connections together.
    pub(crate) bytes: usize,
}

/// All open connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    limits: Limits,
    open: Arc<Mutex<Open>>,
    closed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Open {
    next_id: u64,
    held_bytes: usize,
    by_id: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    turn: Turn,
    /// When the turn began.
    since: Instant,
    /// Whether we wait for the client: all that has come is read, or an answer does not go out. A connection that we
    /// have not got round to is not late.
    is_waited_for: bool,
    held_bytes: usize,
    /// Reading its request takes much more work than reading a provider's, so the connection may give way while there
    /// is more to read.
    is_costly: bool,
    /// A webhook was accepted on it.
    is_proven: bool,
    /// Its task ends when this is dropped.
    _keep: oneshot::Sender<Infallible>,
}

/// Which side has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The client, which has not begun a request.
    Idle,
    /// The client, whose request arrives.
    Request,
    /// We: the request is complete. Such a connection never gives way.
    Ours,
    /// The client, which has to take our answer.
    Answer,
}

/// Resolves when a connection has to give way to another one.
pub(crate) type GivesWay = oneshot::Receiver<Infallible>;

impl Connections {
    /// Starts with no connection.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, open: Arc::default(), closed: Arc::default() }
    }

    /// Admits a new connection as soon as there is room. As a rule another connection gives way at once, or within
    /// [`PATIENCE`].
    pub(crate) async fn open(&self) -> (Arc<Connection>, GivesWay) {
        loop {
            match self.try_open(Instant::now()) {
                Some(opened) => return opened,
                None => drop(timeout(LOOK_AGAIN, self.closed.notified()).await),
            }
        }
    }

    fn try_open(&self, now: Instant) -> Option<(Arc<Connection>, GivesWay)> {
        let mut open = self.lock();
        if open.by_id.len() >= self.limits.connections && !open.make_place(now) {
            return None;
        }
        let id = open.next_id;
        open.next_id += 1;
        let (keep, gives_way) = oneshot::channel();
        open.by_id.insert(id, Entry::new(now, keep));
        open.report();
        Some((Arc::new(Connection { id, all: self.clone() }), gives_way))
    }

    /// Closes an eighth of the connections: the process has no file descriptor left for another one.
    pub(crate) fn make_room(&self) {
        let (mut open, now) = (self.lock(), Instant::now());
        for _ in 0..open.by_id.len().div_ceil(8) {
            open.make_place(now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(now: Instant, keep: oneshot::Sender<Infallible>) -> Self {
        Self {
            turn: Turn::Idle,
            since: now,
            is_waited_for: false,
            held_bytes: 0,
            is_costly: false,
            is_proven: false,
            _keep: keep,
        }
    }
}

impl Open {
    /// Closes a connection to make place for a new one. `false` when none may be closed.
    fn make_place(&mut self, now: Instant) -> bool {
        self.shed(|entry| entry.is_costly || now.saturating_duration_since(entry.since) >= PATIENCE)
    }

    /// Of the connections that `may` be closed, closes the one whose client has been waited for the longest; those on
    /// which a webhook was accepted come last. `false` when there is none.
    fn shed(&mut self, may: impl Fn(&Entry) -> bool) -> bool {
        let candidates = self
            .by_id
            .iter()
            .filter(|(_, entry)| (entry.is_waited_for || entry.is_costly) && entry.turn != Turn::Ours && may(entry));
        let Some((id, _)) = candidates.min_by_key(|(_, entry)| (entry.is_proven, entry.since)) else { return false };
        let id = *id;
        self.remove(id);
        metrics::counter!("switchboard_front_door_connections_shed_total").increment(1);
        true
    }

    fn remove(&mut self, id: u64) {
        if let Some(entry) = self.by_id.remove(&id) {
            self.held_bytes = self.held_bytes.saturating_sub(entry.held_bytes);
            self.report();
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "there are a few thousand")]
    fn report(&self) {
        metrics::gauge!("switchboard_front_door_connections").set(self.by_id.len() as f64);
    }
}

/// One open connection. It counts, with the bytes held for it, until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    id: u64,
    all: Connections,
}

impl Connection {
    /// `bytes` more of a request have arrived. `false` when they are too many to hold, or the connection has given way.
    /// A connection that holds no more than its share is never refused.
    pub(crate) fn received(&self, bytes: usize, now: Instant) -> bool {
        let mut open = self.all.lock();
        let Some(entry) = open.by_id.get_mut(&self.id) else { return false };
        entry.is_waited_for = false;
        if entry.turn == Turn::Idle {
            (entry.turn, entry.since) = (Turn::Request, now);
        }
        entry.held_bytes += bytes;
        open.held_bytes += bytes;
        // If all connections together hold too much, one of them holds more than its share.
        let share = self.all.limits.bytes / self.all.limits.connections;
        while open.held_bytes > self.all.limits.bytes {
            if !open.shed(|entry| entry.held_bytes > share) {
                // The connections above their share wait for us: complete, or not read on yet. Those within their share
                // go on.
                break;
            }
        }
        let is_over = open.held_bytes > self.all.limits.bytes;
        open.by_id.get(&self.id).is_some_and(|entry| !is_over || entry.held_bytes <= share)
    }

    /// The client has to do something now.
    pub(crate) fn waits(&self) {
        self.change(|entry| entry.is_waited_for = true);
    }

    /// Its request takes much work to read: a new connection may take its place although there is more to read.
    pub(crate) fn is_costly(&self) {
        self.change(|entry| entry.is_costly = true);
    }

    /// The request is complete: it is our turn.
    pub(crate) fn is_ours(&self) {
        self.change(|entry| entry.turn = Turn::Ours);
    }

    /// There is an answer; `is_accepted` when it says that a webhook was accepted.
    pub(crate) fn answers(&self, is_accepted: bool, now: Instant) {
        self.change(|entry| {
            (entry.turn, entry.since, entry.is_waited_for) = (Turn::Answer, now, false);
            entry.is_proven |= is_accepted;
        });
    }

    /// The client's machine has the answer, if there was one; nothing of the request is held any more.
    pub(crate) fn answered(&self, now: Instant) {
        let mut open = self.all.lock();
        let answered = open.by_id.get_mut(&self.id).filter(|entry| entry.turn == Turn::Answer);
        let Some(entry) = answered else { return };
        (entry.turn, entry.since, entry.is_costly) = (Turn::Idle, now, false);
        let held_bytes = std::mem::take(&mut entry.held_bytes);
        open.held_bytes = open.held_bytes.saturating_sub(held_bytes);
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        self.all.lock().by_id.get_mut(&self.id).map(change);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.lock().remove(self.id);
        self.all.closed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn gave_way(gives_way: &mut GivesWay) -> bool {
        gives_way.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn b6_the_stranger_that_is_waited_for_the_longest_gives_way() {
        let all = Connections::new(Limits { connections: 3, bytes: 300 });
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut open: Vec<_> = (0..3).map(|second| all.try_open(at(second)).unwrap()).collect();
        assert!(all.try_open(at(3)).is_none(), "none of them was looked at");
        open[0].0.answers(true, at(4));
        open[0].0.answered(at(5));
        for (connection, _) in &open {
            connection.waits();
        }
        open[1].0.is_ours();
        assert!(all.try_open(at(2) + PATIENCE / 2).is_none(), "what the youngest sends may be on its way");
        let late = all.try_open(at(6)).unwrap();
        late.0.waits();
        assert_eq!(open.iter_mut().map(|(_, way)| gave_way(way)).collect::<Vec<_>>(), [false, false, true]);
        let later = all.try_open(at(7)).unwrap();
        assert!(later.0.received(1, at(7)) && !late.0.received(1, at(7)), "a stranger before one that is known");
        later.0.is_ours();
        let mut last = all.try_open(at(8)).unwrap();
        assert!(gave_way(&mut open[0].1), "the known one has done nothing since");
        assert!(all.try_open(at(9)).is_none() && !gave_way(&mut last.1));
        drop(open.remove(1));
        assert!(all.try_open(at(10)).is_some());
    }

    #[test]
    fn b6_a_costly_client_gives_way_even_while_there_is_more_to_read() {
        let all = Connections::new(Limits { connections: 2, bytes: 200 });
        let now = Instant::now();
        let (mut usual, mut costly) = (all.try_open(now).unwrap(), all.try_open(now).unwrap());
        assert!(usual.0.received(1, now) && costly.0.received(1, now));
        assert!(all.try_open(now + PATIENCE).is_none(), "both are still to be read");
        costly.0.is_costly();
        let newcomer = all.try_open(now).unwrap();
        assert!(gave_way(&mut costly.1) && !gave_way(&mut usual.1));
        newcomer.0.is_costly();
        newcomer.0.is_ours();
        assert!(all.try_open(now).is_none(), "its request is complete");
    }

    #[test]
    fn b7_who_holds_more_than_a_share_gives_way_to_bytes_that_arrive() {
        let all = Connections::new(Limits { connections: 3, bytes: 300 });
        let now = Instant::now();
        let mut open: Vec<_> = (0..3).map(|_| all.try_open(now).unwrap()).collect();
        assert!(open[0].0.received(50, now) && open[1].0.received(200, now));
        assert!(open[2].0.received(60, now), "it holds less than a share");
        assert!(!open[1].0.received(1, now), "it is still being read, and holds too much");
        open[0].0.waits();
        open[1].0.waits();
        assert!(open[2].0.received(1, now));
        assert_eq!(open.iter_mut().map(|(_, way)| gave_way(way)).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(all.lock().held_bytes, 111);
        open[0].0.answers(false, now);
        open[0].0.answered(now);
        assert_eq!(all.lock().held_bytes, 61);
        drop(open);
        let left = all.lock();
        assert_eq!((left.held_bytes, left.by_id.len()), (0, 0));
    }
}
