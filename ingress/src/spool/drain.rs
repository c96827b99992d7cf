//! Publishes what is in the spool, oldest first, until nothing is left. It also finds out that the broker is back.
//!
//! It goes through the spool in passes. A message that the broker does not take waits for the next pass, with all
//! messages of its stripe behind it; the others are published past it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use broker::Broker;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use message::failure::Failure;
use message::retry::{Backoff, RetryPolicy};
use message::shutdown::Shutdown;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{info, warn};

use super::backlog::Stretch;
use super::page::{Page, Piece};
use super::position::Position;
use super::writer::Command;
use super::{Spool, segment};
use crate::durable::{CONFIRM_TIMEOUT, is_there};

/// How many messages are published at a time, at most: as many as the broker keeps unconfirmed.
const LARGEST_BATCH: usize = 100;
/// How many messages are tried at a time while the broker is away: of several stripes, as one queue alone may be sick.
const SCOUTS: usize = 8;
/// How long publishing a message may take, 15 s: longer than an adapter's own deadline. Other messages do not wait for
/// it that long.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a segment that cannot be read is tried before it is laid aside.
const READS: u32 = 5;
/// How long messages that the broker did not take wait for the next pass: a pass reads through all that is left.
const NEXT_PASS: RetryPolicy = RetryPolicy { initial: Duration::from_millis(200), max: Duration::from_secs(10) };

/// A message that is being published, the number of its batch, and the result.
type Call = BoxFuture<'static, (Piece, u64, Result<(), Failure>)>;

/// Publishes the spool.
#[derive(Debug)]
pub(crate) struct Drain {
    spool: Spool,
    broker: Arc<dyn Broker>,
    /// The page in work, and up to where the spool was read.
    page: Page,
    read_to: Position,
    calls: FuturesUnordered<Call>,
    /// The stripes of those calls. No two calls share one: if the broker refused the first and took the second, the
    /// second would have overtaken the first.
    under_way: HashSet<u16>,
    /// How many batches there were.
    batches: u64,
    /// The stripes that wait for the next pass.
    aside: HashSet<u16>,
    /// When the oldest message that waits for the next pass was appended, in milliseconds since 1970.
    oldest_aside_ms: Option<i64>,
    /// When the next pass begins; set once this one has come to its end.
    next_pass: Option<Instant>,
    /// How long to wait for the next pass, and for a broker that is away.
    pause: Backoff,
    backoff: Backoff,
    /// Why the broker last did not take a message.
    trouble: String,
}

impl Drain {
    pub(crate) fn new(spool: Spool, broker: Arc<dyn Broker>) -> Self {
        Self {
            spool,
            broker,
            page: Page::default(),
            read_to: Position::default(),
            calls: FuturesUnordered::new(),
            under_way: HashSet::new(),
            batches: 0,
            aside: HashSet::new(),
            oldest_aside_ms: None,
            next_pass: None,
            pause: NEXT_PASS.start(),
            backoff: RetryPolicy::RECONNECT.start(),
            trouble: String::new(),
        }
    }

    /// Publishes until `stop`; then on until the end of the pass, or until the broker is away.
    pub(crate) async fn run(mut self, stop: Shutdown) {
        while self.turn_page(&stop).await {
            let batch = self.begin_batch();
            let published = self.await_confirms(&batch).await;
            let is_published = !published.is_empty();
            if !self.forget(published).await {
                return;
            }
            let was_away = self.spool.backlog.is_broker_away();
            let is_doubtful = !is_published && (was_away || !batch.is_empty());
            let is_away = is_doubtful && !is_there(&self.broker).await;
            if is_published || is_doubtful {
                self.spool.backlog.set_broker_away(is_away);
            }
            if is_away {
                tokio::select! {
                    () = stop.started() => return,
                    () = sleep(self.backoff.next_delay(None)) => {}
                }
            } else if is_published {
                self.pause.reset();
                self.backoff.reset();
            }
            if was_away && !is_away && (is_published || is_doubtful) {
                self.begin_pass();
            }
        }
    }

    /// Makes sure that the page holds something to publish. `false` when the drain has to end.
    async fn turn_page(&mut self, stop: &Shutdown) -> bool {
        while self.page.is_over() {
            let goes_on = match self.spool.backlog.next(self.read_to) {
                Some(stretch) => self.read(stretch).await,
                None => self.rest(stop).await,
            };
            if !goes_on {
                return false;
            }
        }
        true
    }

    /// Reads `stretch`. `false` when there is no writer any more.
    async fn read(&mut self, stretch: Stretch) -> bool {
        for _ in 0..READS {
            let path = segment::path(&self.spool.dir, stretch.segment);
            let read = tokio::task::spawn_blocking(move || segment::load(&path, stretch.from, stretch.to)).await;
            match read.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked))) {
                Ok(bytes) if !bytes.is_empty() => {
                    self.page = Page::new(stretch, bytes);
                    self.read_to = self.page.end();
                    return true;
                }
                Ok(_) => break,
                Err(error) => {
                    warn!(%error, "cannot read the spool");
                    sleep(self.backoff.next_delay(None)).await;
                }
            }
        }
        warn!(segment = stretch.segment, "a segment of the spool cannot be read and is laid aside");
        metrics::counter!("switchboard_spool_dropped_total").increment(1);
        self.spool.tell(|done| Command::LayAside(stretch.segment, done)).await
    }

    /// Waits at the end of a pass until there is more in the spool, or until the next pass is due. `false` when the
    /// drain has to end.
    async fn rest(&mut self, stop: &Shutdown) -> bool {
        if self.aside.is_empty() {
            self.trouble.clear();
        } else if self.next_pass.is_none() {
            let row = if self.spool.backlog.is_broker_away() { &mut self.backoff } else { &mut self.pause };
            self.next_pass = Some(Instant::now() + row.next_delay(None));
        }
        let its_time = async {
            match self.next_pass {
                Some(next_pass) => sleep_until(next_pass).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.spool.backlog.grown.notified() => true,
            Some((piece, _, result)) = self.calls.next() => {
                let published = self.settle(piece, result);
                self.forget(published.into_iter().collect()).await
            }
            () = its_time => {
                self.begin_pass();
                true
            }
            () = stop.started() => self.spool.backlog.next(self.read_to).is_some(),
        }
    }

    fn begin_pass(&mut self) {
        (self.page, self.read_to) = (Page::default(), Position::default());
        self.aside.clear();
        (self.oldest_aside_ms, self.next_pass) = (None, None);
    }

    /// Begins to publish the next messages, and returns their stripes.
    fn begin_batch(&mut self) -> HashSet<u16> {
        let is_away = self.spool.backlog.is_broker_away();
        let most = if is_away { SCOUTS } else { LARGEST_BATCH };
        let (mut batch, mut first_ms) = (HashSet::new(), None);
        self.batches += 1;
        while batch.len() < most {
            let Some(piece) = self.page.peek(&self.spool.backlog) else { break };
            let (stripe, appended_ms) = (piece.record.stripe, piece.record.appended_ms);
            if batch.contains(&stripe) {
                break;
            }
            self.page.go_past(&piece);
            first_ms.get_or_insert(appended_ms);
            if self.aside.contains(&stripe) || self.under_way.contains(&stripe) {
                self.set_aside(stripe, appended_ms);
            } else {
                batch.insert(stripe);
                self.calls.push(call(Arc::clone(&self.broker), piece, self.batches));
            }
        }
        self.under_way.extend(&batch);
        if let Some(oldest_ms) = self.oldest_aside_ms.or(first_ms) {
            self.spool.backlog.set_oldest(oldest_ms);
        }
        self.spool.measure();
        batch
    }

    /// Waits for the results of all messages of `batch`, at most for [`CONFIRM_TIMEOUT`]. Returns the messages that are
    /// published, of earlier batches too.
    async fn await_confirms(&mut self, batch: &HashSet<u16>) -> Vec<Piece> {
        let deadline = Instant::now() + CONFIRM_TIMEOUT;
        let (mut left, mut published) = (batch.len(), Vec::new());
        while left > 0 {
            let Ok(Some((piece, number, result))) = timeout_at(deadline, self.calls.next()).await else { break };
            left -= usize::from(number == self.batches);
            published.extend(self.settle(piece, result));
        }
        if left > 0 {
            // A late result may still come. The messages behind it do not wait for it here.
            self.aside.extend(batch.intersection(&self.under_way));
            self.oldest_aside_ms = self.oldest_aside_ms.or(self.spool.backlog.depth().oldest_ms);
        }
        published
    }

    /// Records the result for `piece`, and returns it if it is published.
    fn settle(&mut self, piece: Piece, result: Result<(), Failure>) -> Option<Piece> {
        self.under_way.remove(&piece.record.stripe);
        let Err(failure) = result else { return Some(piece) };
        self.set_aside(piece.record.stripe, piece.record.appended_ms);
        // Logged once for each reason, not for each try.
        let trouble = failure.to_string();
        if trouble != self.trouble {
            warn!("cannot drain all of the spool: {trouble}");
            self.trouble = trouble;
        }
        None
    }

    fn set_aside(&mut self, stripe: u16, appended_ms: i64) {
        self.aside.insert(stripe);
        let oldest_ms = self.oldest_aside_ms.get_or_insert(appended_ms);
        *oldest_ms = appended_ms.min(*oldest_ms);
    }

    /// Takes what is `published`, or damaged, off the spool. `false` when there is no writer any more.
    async fn forget(&mut self, published: Vec<Piece>) -> bool {
        let damage = self.page.take_damage();
        let stripes: Vec<u16> = published.iter().map(|piece| piece.record.stripe).collect();
        let stretches: Vec<_> = published.iter().map(|piece| piece.stretch).chain(damage.stretches).collect();
        if stretches.is_empty() {
            return true;
        }
        let messages = stripes.len();
        if !self.spool.tell(|done| Command::Drained(stretches, stripes, done)).await {
            return false;
        }
        metrics::counter!("switchboard_spool_drained_total").increment(messages as u64);
        if damage.records > 0 {
            warn!(records = damage.records, "a damaged place of the spool was skipped");
            metrics::counter!("switchboard_spool_dropped_total").increment(damage.records);
        }
        self.spool.measure();
        if self.spool.is_empty() {
            info!("the spool is drained");
        }
        true
    }
}

/// Publishes `piece`, of batch `number`.
fn call(broker: Arc<dyn Broker>, piece: Piece, number: u64) -> Call {
    Box::pin(async move {
        let message = piece.outgoing();
        let published = timeout(PUBLISH_TIMEOUT, broker.publish(std::slice::from_ref(&message))).await;
        let late = |_| Err(Failure::unknown("the broker did not confirm in time"));
        (piece, number, published.unwrap_or_else(late))
    })
}
