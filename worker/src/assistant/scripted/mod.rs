//! An assistant that answers by itself from a small dialogue: for the demo, for trying things out, and for tests.

mod dialogue;

use async_trait::async_trait;
use integration::ScriptedSettings;
use message::failure::Failure;
use serde_json::{Value, json};

use self::dialogue::{Dialogue, Node};
use super::{Answer, Assistant, Choice, ChoiceList, Input, Item, Turn};

/// The dialogue that the demo speaks.
const BUILT_IN: &str = include_str!("bank.toml");

/// Answers from a dialogue.
#[derive(Debug)]
pub(super) struct Scripted {
    dialogue: Dialogue,
}

impl Scripted {
    /// Reads the dialogue that `settings` name.
    ///
    /// # Errors
    /// When the file cannot be read, or the dialogue has problems: all of them are named.
    pub(super) fn open(settings: &ScriptedSettings) -> Result<Self, Failure> {
        let (name, text) = match &settings.file {
            None => ("the built-in dialogue".to_owned(), BUILT_IN.to_owned()),
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path)
                    .map_err(|e| Failure::misconfigured(format!("cannot read the dialogue {name}")).caused_by(e))?;
                (name, text)
            }
        };
        let dialogue = Dialogue::parse(&text)
            .map_err(|problems| Failure::misconfigured(format!("{name} has problems: {}", problems.join("; "))))?;
        Ok(Self { dialogue })
    }

    fn next(&self, turn: &Turn<'_>) -> &Node {
        match turn.input {
            Input::Choice(input) => self.dialogue.node(input.get("node").and_then(Value::as_str).unwrap_or_default()),
            Input::Text(text) => self.dialogue.about(text.expose()),
        }
        .unwrap_or(if turn.state.is_null() { &self.dialogue.start } else { &self.dialogue.fallback })
    }
}

#[async_trait]
impl Assistant for Scripted {
    async fn answer(&self, turn: &Turn<'_>) -> Result<Answer, Failure> {
        let node = self.next(turn);
        let item = if node.options.is_empty() {
            Item::Text(node.text.as_str().into())
        } else {
            let choices = node
                .options
                .iter()
                .map(|option| Choice {
                    label: option.label.as_str().into(),
                    input: json!({ "node": option.to.as_ref() }),
                })
                .collect();
            Item::Options(ChoiceList { title: node.text.as_str().into(), description: None, choices })
        };
        Ok(Answer { items: vec![item], state: json!({ "node": node.id.as_ref() }), ends_session: node.ends })
    }
}

#[cfg(test)]
mod tests {
    use message::clock::Clock;
    use message::{Address, Conversation, MessageText};

    use super::*;
    use crate::assistant::Attempts;
    use crate::render::{OpenList, render};

    /// Talks with the built-in dialogue and returns what a customer would read.
    async fn conversation(says: &[&str]) -> String {
        let assistant = Scripted::open(&ScriptedSettings::default()).unwrap();
        let number = Address::parse("+13035550199").unwrap();
        let conversation = Conversation::new(number.clone(), number);
        let attempts = Attempts::new(Clock::system());
        let (mut state, mut list, mut read) = (Value::Null, None::<OpenList>, String::new());
        for said in says {
            let text = MessageText::from(*said);
            let chosen = list.as_ref().and_then(|list| list.choose(said));
            let input = chosen.map_or(Input::Text(&text), |choice| Input::Choice(&choice.input));
            let turn = Turn {
                input,
                state: &state,
                user_id: "u",
                conversation: &conversation,
                sms_session: "s",
                media: &[],
                attempts: &attempts,
            };
            let answer = assistant.answer(&turn).await.unwrap();
            let rendered = render(&answer.items, 1600);
            read += &format!("> {said}\n{}\n", rendered.texts[0].expose());
            if answer.ends_session {
                read += "(session over)\n";
            }
            (state, list) = (answer.state, rendered.list);
        }
        read
    }

    #[tokio::test]
    async fn the_built_in_dialogue_helps_out() {
        let read = conversation(&["hello", "2", "what are your opening hours?", "xyzzy", "3", "bye"]).await;
        insta::assert_snapshot!(read);
    }

    #[test]
    fn a_dialogue_file_that_cannot_be_used_names_every_problem() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "start = 'a'\nfallback = 'b'\n[[nodes]]\nid = 'c'\ntext = ''\n").unwrap();
        let settings = ScriptedSettings { file: Some(file.path().to_owned()) };
        let failure = Scripted::open(&settings).unwrap_err().to_string();
        for problem in ["line 1: `start` names no node: a", "line 2: `fallback` names no node: b", "node c has no text"]
        {
            assert!(failure.contains(problem), "{failure}");
        }
    }
}
