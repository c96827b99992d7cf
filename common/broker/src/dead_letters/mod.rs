//! The dead-letter port, beside [`Broker`](super::Broker): an operator looks at the dead letters, publishes them to
//! their stage again, or discards them. Looking alone removes nothing.

mod discard;
mod filter;
mod letter;
mod replay;
mod survey;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use message::clock::Timestamp;
use message::failure::Failure;

use super::{Outgoing, Stage};

pub use discard::discard;
pub use filter::{ConversationFilter, Filter, InvalidConversationFilter};
pub use letter::{Content, Letter};
pub use replay::{Order, Progress, replay};
pub use survey::{Kind, Survey, survey};

/// The dead letters of an installation.
#[async_trait]
pub trait DeadLetters: Send + Sync + fmt::Debug {
    /// Opens a walk through the dead letters of `stage`, or of all stages. It may also return letters of other stages.
    /// Where the broker has a lock, only one walk runs at a time.
    ///
    /// # Errors
    /// When the broker cannot be reached, or another walk is running.
    async fn open(&self, stage: Option<Stage>) -> Result<Box<dyn Walk>, Failure>;
}

/// One walk through the dead letters that existed when it began. It returns each of them once.
#[async_trait]
pub trait Walk: Send {
    /// The next dead letter; `None` at the end. A letter that is neither replayed nor discarded stays in its queue, but
    /// the order there may change.
    ///
    /// # Errors
    /// When the broker is lost; the walk is then over.
    async fn next(&mut self) -> Result<Option<DeadLetter>, Failure>;

    /// Publishes each message in order, waits until it is durable, then removes the dead letter it came from. Returns
    /// how many were replayed: fewer than given if another process removed some of them first.
    ///
    /// # Errors
    /// The letters given may or may not have been published, and all of them are still there: replaying them again is
    /// harmless.
    async fn replay(&mut self, letters: &[(LetterTag, Outgoing)]) -> Result<u64, Failure>;

    /// Removes a dead letter for good. Returns whether it was still there.
    ///
    /// # Errors
    /// When the broker is lost.
    async fn discard(&mut self, tag: LetterTag) -> Result<bool, Failure>;

    /// Ends the walk.
    async fn close(self: Box<Self>);
}

/// Identifies a dead letter, within the walk that returned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LetterTag(pub u64);

/// A dead letter as it is stored.
#[derive(Clone)]
pub struct DeadLetter {
    /// Identifies it, within the walk that returned it.
    pub tag: LetterTag,
    /// The stage it came from.
    pub stage: Stage,
    /// Why it was dead-lettered: the reason's name.
    pub reason: String,
    /// The reason in a sentence; may be empty.
    pub detail: String,
    /// When it was dead-lettered; `None` where the broker does not know.
    pub died_at: Option<Timestamp>,
    /// The headers it travelled with, by name; empty where a broker has none.
    pub headers: Vec<(String, String)>,
    /// The payload as it was published.
    pub payload: Bytes,
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter").field("stage", &self.stage).field("reason", &self.reason).finish_non_exhaustive()
    }
}
