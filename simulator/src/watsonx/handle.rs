//! The assistant as a test sees it: the turns that it got, and the answers that it should give.

use std::sync::Arc;

use futures_util::FutureExt as _;
use serde_json::{Value, json};

use crate::world::World;

/// A message that the assistant was asked to answer.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The session; `None` for a turn without a session.
    pub session_id: Option<String>,
    /// The assistant's id in the path.
    pub assistant_id: String,
    /// The environment's id in the path, on the newer paths.
    pub environment_id: Option<String>,
    /// The number of turns in the session before this one.
    pub earlier_turns: u64,
    /// `input.text`, empty if absent.
    pub text: String,
    /// The context after this request: the session's context, merged with that of the request.
    pub context: Value,
    /// The whole request body.
    pub request: Value,
}

/// An answer of the assistant.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The items of `output.generic`, each with a `response_type`.
    pub generic: Vec<Value>,
    /// Merged into the session's context.
    pub context: Option<Value>,
    /// Merged into `output`, such as `user_defined` or `actions`.
    pub output: Option<Value>,
}

impl Answer {
    /// An answer with one text item.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::items([json!({ "response_type": "text", "text": text.into() })])
    }

    /// An answer with these items.
    #[must_use]
    pub fn items(items: impl IntoIterator<Item = Value>) -> Self {
        Self { generic: items.into_iter().collect(), ..Self::default() }
    }

    /// The same answer with `context` merged into the session's context.
    #[must_use]
    pub fn with_context(mut self, context: Value) -> Self {
        self.context = Some(context);
        self
    }

    /// The same answer with `output` merged into its `output`.
    #[must_use]
    pub fn with_output(mut self, output: Value) -> Self {
        self.output = Some(output);
        self
    }
}

/// The simulated assistant; cheap to clone.
#[derive(Clone, Debug)]
pub struct AssistantHandle {
    world: Arc<World>,
}

impl AssistantHandle {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { world }
    }

    /// Answers turns from now on with `answer` instead of the built-in dialogue.
    pub fn answer_with(&self, answer: impl Fn(&Turn) -> Answer + Send + Sync + 'static) {
        self.world.assistant.set_dialogue(Arc::new(move |turn| std::future::ready(answer(&turn)).boxed()));
    }

    /// The same for an answer that takes time, such as one that waits until a test releases it.
    pub fn answer_later_with<F>(&self, answer: impl Fn(Turn) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        self.world.assistant.set_dialogue(Arc::new(move |turn| answer(turn).boxed()));
    }

    /// All turns, in the order in which they came. Turns whose answers were lost by a fault are included.
    #[must_use]
    pub fn turns(&self) -> Vec<Turn> {
        self.world.assistant.turns()
    }

    /// The number of open sessions.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.world.assistant.sessions.count()
    }

    /// Ends all sessions, as their timeout would.
    pub fn expire_sessions(&self) {
        self.world.assistant.sessions.expire_all();
    }

    /// Refuses all tokens that were issued so far.
    pub fn expire_tokens(&self) {
        self.world.assistant.tokens.expire_all();
    }

    /// Sets whether callers without credentials are answered.
    pub fn allow_anonymous(&self, allowed: bool) {
        self.world.assistant.allow_anonymous(allowed);
    }
}
