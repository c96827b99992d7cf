//! The port beside [`Broker`](super::Broker) through which a person looks at the dead letters, sends them on their way
//! again, or discards them. Whoever walks through them takes nothing off by looking.

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
    /// Opens a walk through the dead letters of `stage`, or of all stages. It may also pass some of other stages.
    /// Where the broker can tell, nobody else may walk meanwhile.
    ///
    /// # Errors
    /// When the broker cannot be reached, or somebody else is walking.
    async fn open(&self, stage: Option<Stage>) -> Result<Box<dyn Walk>, Failure>;
}

/// One walk through the dead letters that were there when it began; each is passed once.
#[async_trait]
pub trait Walk: Send {
    /// The next dead letter; `None` at the end. What is not taken off stays, in whichever order.
    ///
    /// # Errors
    /// When the broker is lost; the walk is then over.
    async fn next(&mut self) -> Result<Option<DeadLetter>, Failure>;

    /// Publishes each message in order, waits until that is durable, then takes the dead letter it came from off.
    /// Returns how many were replayed: fewer than given if somebody else took some off before.
    ///
    /// # Errors
    /// Those given may or may not have been published, and are all still there: replaying them again is harmless.
    async fn replay(&mut self, letters: &[(Place, Outgoing)]) -> Result<u64, Failure>;

    /// Takes a dead letter off for good; returns whether it was still there.
    ///
    /// # Errors
    /// When the broker is lost.
    async fn discard(&mut self, place: Place) -> Result<bool, Failure>;

    /// Ends the walk.
    async fn close(self: Box<Self>);
}

/// Where a dead letter lies, valid during the walk that passed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u64);

/// A message set aside, as it lies there.
#[derive(Clone)]
pub struct DeadLetter {
    /// Where it lies.
    pub place: Place,
    /// The stage it came from.
    pub stage: Stage,
    /// Why it was set aside, in a word.
    pub reason: String,
    /// The same in a sentence; may be empty.
    pub detail: String,
    /// When it was set aside, where the broker knows.
    pub died_at: Option<Timestamp>,
    /// The headers it travelled with, by name; empty where a broker has none.
    pub headers: Vec<(String, String)>,
    /// The message.
    pub payload: Bytes,
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter").field("stage", &self.stage).field("reason", &self.reason).finish_non_exhaustive()
    }
}
