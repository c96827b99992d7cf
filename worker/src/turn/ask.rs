//! Asks the assistant and turns the result into a ledger entry and the session that follows.

use std::time::Instant;

use integration::Integration;
use message::failure::Failure;
use message::{Envelope, Inbound};
use store::{Expect, Interrupted, Key, Record, Write};

use super::ledger::{Cause, Entry, Unanswered};
use super::{TurnHandler, burst};
use crate::assistant::{Answer, Assistant, Attempts, Input, Item, Turn};
use crate::render::{OpenList, render};
use crate::session::Session;

/// A turn that was taken and is not yet in the store.
pub(super) struct Taken {
    /// What the ledger will say.
    pub(super) entry: Entry,
    after: After,
}

/// What becomes of the session.
enum After {
    /// It goes on.
    Goes(Session),
    /// It is over.
    Ends,
    /// The turn failed: it stays as it is.
    Stays,
}

impl TurnHandler {
    /// Asks `assistant` about `inbound`, in the `running` session or a new one.
    pub(super) async fn ask(
        &self,
        envelope: &Envelope,
        inbound: &Inbound,
        integration: &Integration,
        assistant: &dyn Assistant,
        running: Option<Session>,
    ) -> Result<Taken, Interrupted> {
        let user_id = self.identity.user_id(&envelope.conversation.customer).await?;
        let session = running.unwrap_or_else(|| Session::opened_by(envelope, self.clock.now()));
        let (text, media) = burst::said(inbound);
        let choice = session.list.as_ref().and_then(|list| list.choose(text.expose())).cloned();
        let attempts = Attempts::new(self.clock.clone());
        let started = Instant::now();
        let turn = Turn {
            input: choice.as_ref().map_or(Input::Text(&text), |choice| Input::Choice(&choice.input)),
            state: session.assistant_state(),
            user_id: &user_id,
            conversation: &envelope.conversation,
            sms_session: &session.sms_session.to_string(),
            media: &media,
            attempts: &attempts,
        };
        let answered = tokio::time::timeout(self.longest_turn, assistant.answer(&turn)).await;
        let answered =
            answered.unwrap_or_else(|_| Err(Failure::unknown("the assistant did not answer within a turn's time")));
        metrics::histogram!("switchboard_assistant_answer_seconds", "assistant" => integration.assistant.name())
            .record(started.elapsed());
        Ok(match answered {
            Ok(answer) => self.answered(answer, integration, session, choice.is_some()),
            Err(failure) => failed(envelope, integration, &failure, attempts),
        })
    }

    fn answered(&self, answer: Answer, integration: &Integration, session: Session, has_chosen: bool) -> Taken {
        let rendered = render(&answer.items, integration.options.max_part_chars.into());
        let passed_over = || if has_chosen { None } else { session.list.clone().and_then(OpenList::passed_over) };
        let list = rendered.list.or_else(passed_over);
        let after = if answer.ends_session {
            After::Ends
        } else {
            After::Goes(session.after(answer.state, list, self.clock.now()))
        };
        Taken { entry: Entry::answered(rendered.texts), after }
    }
}

fn failed(envelope: &Envelope, integration: &Integration, failure: &Failure, attempts: Attempts) -> Taken {
    tracing::warn!(
        message.id = %envelope.id, integration.id = %integration.id, failure = %failure,
        "the assistant did not answer, the failure message goes out"
    );
    let mut tried = envelope.attempts.clone();
    tried.extend(attempts.into_failed(failure));
    let unanswered = Unanswered {
        cause: Cause::of(failure),
        detail: failure.to_string(),
        attempts: tried,
        times_replayed: envelope.times_replayed(),
    };
    let message = Item::Text(integration.options.failure_message.as_str().into());
    let rendered = render(&[message], integration.options.max_part_chars.into());
    Taken { entry: Entry::unanswered(rendered.texts, unanswered), after: After::Stays }
}

impl Taken {
    /// The change of the session's record, which must be as it was `read`.
    pub(super) fn session_write(&self, key: Key, read: Option<&Record>, integration: &Integration) -> Option<Write> {
        let expect = Expect::unchanged(read);
        match &self.after {
            After::Goes(session) => {
                Some(Write::put(key, expect, session.encode(), integration.options.session_timeout))
            }
            After::Ends => Some(Write::delete(key, expect)),
            After::Stays => None,
        }
    }
}
