//! The assistant's state between calls: sessions, tokens, the dialogue, and every turn.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::dialogue;
use super::handle::{Answer, Turn};
use super::instance::WatsonxInstance;
use super::session::Sessions;
use super::tokens::Tokens;
use crate::journal::push;
use crate::world::lock;

/// A function that answers a turn, now or later.
pub(super) type Dialogue = Arc<dyn Fn(Turn) -> BoxFuture<'static, Answer> + Send + Sync>;

/// The assistant's state.
pub(crate) struct Assistant {
    pub(crate) sessions: Sessions,
    pub(crate) tokens: Tokens,
    dialogue: Mutex<Dialogue>,
    turns: Mutex<VecDeque<Turn>>,
    anonymous: AtomicBool,
    keep: usize,
}

impl std::fmt::Debug for Assistant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assistant").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}

impl Assistant {
    pub(crate) fn new(instance: &WatsonxInstance, url: &str, keep: usize) -> Self {
        Self {
            sessions: Sessions::new(instance.session_timeout),
            tokens: Tokens::default(),
            dialogue: Mutex::new(built_in(url)),
            turns: Mutex::default(),
            anonymous: AtomicBool::new(instance.allow_anonymous),
            keep,
        }
    }

    pub(super) fn set_dialogue(&self, new: Dialogue) {
        *lock(&self.dialogue) = new;
    }

    /// Records the turn and lets the dialogue answer it.
    pub(super) async fn answer(&self, turn: Turn) -> Answer {
        push(&mut lock(&self.turns), turn.clone(), self.keep);
        let dialogue = Arc::clone(&lock(&self.dialogue));
        dialogue(turn).await
    }

    pub(super) fn turns(&self) -> Vec<Turn> {
        lock(&self.turns).iter().cloned().collect()
    }

    pub(crate) fn allow_anonymous(&self, allowed: bool) {
        self.anonymous.store(allowed, Ordering::Relaxed);
    }

    pub(super) fn anonymous_allowed(&self) -> bool {
        self.anonymous.load(Ordering::Relaxed)
    }
}

/// The small built-in dialogue.
pub(super) fn built_in(url: &str) -> Dialogue {
    let picture = format!("{url}/_simulator/picture.svg");
    Arc::new(move |turn| std::future::ready(dialogue::answer(&turn, &picture)).boxed())
}
