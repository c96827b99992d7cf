//! The file format of scripted dialogues, read with every problem reported at once.

use serde::Deserialize;
use toml::Spanned;

/// A checked dialogue: every name in it leads somewhere.
#[derive(Debug)]
pub(super) struct Dialogue {
    /// What a session begins with.
    pub(super) start: Node,
    /// What is said when nothing fits.
    pub(super) fallback: Node,
    nodes: Vec<Node>,
}

/// A dialogue as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    start: Spanned<String>,
    fallback: Spanned<String>,
    nodes: Vec<Node>,
}

/// One thing the assistant can say.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    /// Its name.
    pub(super) id: Spanned<String>,
    /// What it says.
    pub(super) text: String,
    /// Words of the customer that lead here.
    #[serde(default)]
    keywords: Vec<String>,
    /// What may be chosen.
    #[serde(default)]
    pub(super) options: Vec<NodeOption>,
    /// Whether the session is over.
    #[serde(default)]
    pub(super) ends: bool,
}

/// A choice that leads to another node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeOption {
    /// What the customer sees.
    pub(super) label: String,
    /// Where it leads.
    pub(super) to: Spanned<String>,
}

impl Dialogue {
    /// Reads a dialogue.
    ///
    /// # Errors
    /// Every problem, with its line where there is one.
    pub(super) fn parse(text: &str) -> Result<Self, Vec<String>> {
        let file: File = toml::from_str(text).map_err(|e| {
            let line = e.span().map(|span| format!("line {}: ", line_of(text, span.start))).unwrap_or_default();
            vec![format!("{line}{}", e.message())]
        })?;
        let problems = file.problems(text);
        let ends = (find(&file.nodes, file.start.as_ref()), find(&file.nodes, file.fallback.as_ref()));
        match ends {
            (Some(start), Some(fallback)) if problems.is_empty() => {
                Ok(Self { start: start.clone(), fallback: fallback.clone(), nodes: file.nodes })
            }
            _ => Err(problems),
        }
    }

    /// The node named `id`.
    pub(super) fn node(&self, id: &str) -> Option<&Node> {
        find(&self.nodes, id)
    }

    /// The first node with a keyword in `text`.
    pub(super) fn about(&self, text: &str) -> Option<&Node> {
        let text = spaced(text);
        self.nodes.iter().find(|node| node.keywords.iter().any(|keyword| text.contains(&spaced(keyword))))
    }
}

impl File {
    fn problems(&self, text: &str) -> Vec<String> {
        let line = |place: &Spanned<String>| line_of(text, place.span().start);
        let mut problems = Vec::new();
        for (key, name) in [("start", &self.start), ("fallback", &self.fallback)] {
            if find(&self.nodes, name.as_ref()).is_none() {
                problems.push(format!("line {}: `{key}` names no node: {}", line(name), name.as_ref()));
            }
        }
        for (place, node) in self.nodes.iter().enumerate() {
            let (id, line_of_node) = (node.id.as_ref(), line(&node.id));
            if self.nodes.iter().take(place).any(|earlier| earlier.id.as_ref() == id) {
                problems.push(format!("line {line_of_node}: node {id} is there twice"));
            }
            if node.text.trim().is_empty() {
                problems.push(format!("line {line_of_node}: node {id} has no text"));
            }
            // It would match every text.
            if node.keywords.iter().any(|keyword| spaced(keyword).trim().is_empty()) {
                problems.push(format!("line {line_of_node}: node {id} has a keyword without a word"));
            }
            for option in node.options.iter().filter(|option| find(&self.nodes, option.to.as_ref()).is_none()) {
                let (line, to) = (line(&option.to), option.to.as_ref());
                problems.push(format!("line {line}: option `{}` of node {id} leads to no node: {to}", option.label));
            }
        }
        problems
    }
}

fn find<'a>(nodes: &'a [Node], id: &str) -> Option<&'a Node> {
    nodes.iter().find(|node| node.id.as_ref() == id)
}

/// The words of `text` in lower case, a space before and after each: so a keyword matches whole words only.
fn spaced(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.fold(" ".to_owned(), |all, word| all + &word.to_lowercase() + " ")
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_come_with_their_line() {
        let text = "start = 'a'\nfallback = 'nowhere'\n[[nodes]]\nid = 'a'\ntext = 'x'\noptions = [{ label = 'L', to = 'z' }]\n\
                    [[nodes]]\nid = 'a'\ntext = 'y'\n";
        let problems = Dialogue::parse(text).unwrap_err();
        assert_eq!(
            problems,
            [
                "line 2: `fallback` names no node: nowhere",
                "line 6: option `L` of node a leads to no node: z",
                "line 8: node a is there twice",
            ]
        );
    }

    #[test]
    fn a_syntax_error_and_an_unknown_key_come_with_their_line() {
        let problem = |text: &str| Dialogue::parse(text).unwrap_err().join("; ");
        assert!(
            problem("start = 'a'\nfallback = \n").starts_with("line 2: "),
            "{}",
            problem("start = 'a'\nfallback = \n")
        );
        let unknown = "start = 'a'\nfallback = 'a'\nnodes = []\nstrat = 1\n";
        assert!(problem(unknown).starts_with("line 4: unknown field `strat`"), "{}", problem(unknown));
    }

    #[test]
    fn keywords_match_whole_words() {
        let text = "start = 'a'\nfallback = 'a'\n[[nodes]]\nid = 'a'\ntext = 'x'\nkeywords = ['thank you', 'hi']\n";
        let dialogue = Dialogue::parse(text).unwrap();
        assert!(dialogue.about("Well, THANK you!").is_some());
        assert!(dialogue.about("Hi.").is_some());
        assert!(dialogue.about("this").is_none());
    }
}
