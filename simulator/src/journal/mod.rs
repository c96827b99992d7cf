//! The journal of texts, requests and callbacks: bounded, in order, and awaitable.

mod message;
mod record;
mod texts;

use std::collections::VecDeque;
use std::sync::Mutex;

use serde::Serialize;
use tokio::sync::{broadcast, watch};

pub use message::{Direction, Message, MessageState};
pub(crate) use record::Seen;
pub use record::{Callback, RequestRecord};
pub(crate) use texts::Texts;

use crate::world::lock;

/// The number of events that a slow listener may fall behind before it misses some.
const EVENTS_AHEAD: usize = 4096;

/// An event that the phone page shows at once.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A customer wrote, or a provider accepted a text.
    Message {
        /// The text.
        message: Box<Message>,
    },
    /// The state of a text changed.
    State {
        /// The text's id at the provider.
        sid: String,
        /// The new state.
        state: MessageState,
        /// The provider's error code, if it failed.
        error_code: Option<u32>,
    },
    /// The webhook was called with a customer's text.
    Webhook {
        /// The text's id.
        sid: String,
        /// The answer's status; `None` when there was no answer.
        status: Option<u16>,
    },
    /// Numbers, webhooks, opt-outs or faults changed; the page should read the state again.
    Changed,
}

/// The bounded journal of a simulator.
#[derive(Debug)]
pub(crate) struct Journal {
    texts: Mutex<Texts>,
    requests: Mutex<VecDeque<RequestRecord>>,
    callbacks: Mutex<VecDeque<Callback>>,
    keep: usize,
    changes: watch::Sender<u64>,
    events: broadcast::Sender<Event>,
}

impl Journal {
    pub(crate) fn new(keep: usize) -> Self {
        Self {
            texts: Mutex::new(Texts::new(keep)),
            requests: Mutex::default(),
            callbacks: Mutex::default(),
            keep,
            changes: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENTS_AHEAD),
        }
    }

    /// Adds a text. A text with a known id (a duplicate webhook) is not listed twice.
    pub(crate) fn add_message(&self, message: Message) {
        if lock(&self.texts).add(message.clone()) {
            self.tell(Event::Message { message: Box::new(message) });
        }
    }

    /// Moves a text to a later state. A state that ranks lower than the present one changes nothing.
    pub(crate) fn advance(&self, sid: &str, state: MessageState, error_code: Option<u32>) {
        if lock(&self.texts).advance(sid, state, error_code) {
            self.tell(Event::State { sid: sid.to_owned(), state, error_code });
        }
    }

    pub(crate) fn find(&self, sid: &str) -> Option<Message> {
        lock(&self.texts).find(sid).cloned()
    }

    /// The replies to a customer, oldest first, without the first `seen` ones.
    pub(crate) fn replies(&self, customer: &str, seen: usize) -> Vec<Message> {
        lock(&self.texts).replies(customer).skip(seen).cloned().collect()
    }

    /// The kept texts that `wanted` selects, oldest first.
    pub(crate) fn messages(&self, wanted: impl Fn(&Message) -> bool) -> Vec<Message> {
        lock(&self.texts).iter().filter(|m| wanted(m)).cloned().collect()
    }

    pub(crate) fn add_request(&self, record: RequestRecord) {
        push(&mut lock(&self.requests), record, self.keep);
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn requests(&self) -> Vec<RequestRecord> {
        lock(&self.requests).iter().cloned().collect()
    }

    pub(crate) fn add_callback(&self, callback: Callback) {
        push(&mut lock(&self.callbacks), callback, self.keep);
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn callbacks(&self) -> Vec<Callback> {
        lock(&self.callbacks).iter().cloned().collect()
    }

    /// Removes all texts, requests and callbacks.
    pub(crate) fn clear(&self) {
        *lock(&self.texts) = Texts::new(self.keep);
        lock(&self.requests).clear();
        lock(&self.callbacks).clear();
        self.tell(Event::Changed);
    }

    /// Sends the event to every listener, and wakes all tasks that wait for a change.
    pub(crate) fn tell(&self, event: Event) {
        // The send fails only if there are no listeners, which is fine.
        self.events.send(event).ok();
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Waits until `look` returns a value. It is called again after every change.
    pub(crate) async fn wait_for<T>(&self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let mut changes = self.changes.subscribe();
        loop {
            if let Some(found) = look() {
                return Some(found);
            }
            changes.changed().await.ok()?;
        }
    }
}

/// Appends `item`, and drops the oldest items beyond `keep`.
pub(crate) fn push<T>(list: &mut VecDeque<T>, item: T, keep: usize) {
    list.push_back(item);
    while list.len() > keep.max(1) {
        list.pop_front();
    }
}
