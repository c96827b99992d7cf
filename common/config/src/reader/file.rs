//! The configuration file: which one, its text, its TOML.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use toml::Table;
use toml::de::DeTable;

use super::problem::{Problem, Problems};

/// The configuration file when neither the command line nor `SWITCHBOARD_CONFIG` names one.
const DEFAULT_PATH: &str = "./switchboard.toml";
/// How many syntax errors are reported at most: one slip may cause many of them.
const MOST_COMPLAINTS: usize = 5;

/// The text of the file that the command line or `SWITCHBOARD_CONFIG` names, else of `./switchboard.toml`, which may
/// be absent.
///
/// # Errors
/// When a named file does not exist, or the file cannot be read.
pub(crate) fn text(named: Option<&Path>, environment: &BTreeMap<String, String>) -> Result<String, Problems> {
    let from_environment = environment.get("SWITCHBOARD_CONFIG").filter(|path| !path.is_empty()).map(Path::new);
    let named = named.or(from_environment);
    let path = named.unwrap_or(Path::new(DEFAULT_PATH));
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(why) if named.is_none() && why.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(why) => Err(Problems::from(Problem {
            key: path.display().to_string(),
            integration: None,
            variable: None,
            found: format!("cannot be read: {why}"),
            expected: "the configuration, a TOML file in UTF-8".to_owned(),
            mend: "name the file with --config FILE or SWITCHBOARD_CONFIG, or correct its permissions".to_owned(),
        })),
    }
}

/// The table that `text` spells.
///
/// # Errors
/// Each place where it is not TOML, by line and column. The text itself is not shown: it may hold secrets.
pub(crate) fn table(text: &str) -> Result<Table, Problems> {
    text.parse::<Table>().map_err(|first| {
        let (_, mut complaints) = DeTable::parse_recoverable(text);
        if complaints.is_empty() {
            complaints.push(first);
        }
        let problems = complaints.iter().take(MOST_COMPLAINTS).map(|complaint| syntax_problem(text, complaint));
        Problems::of(problems.collect())
    })
}

fn syntax_problem(text: &str, complaint: &toml::de::Error) -> Problem {
    let start = complaint.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let message = complaint.message();
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, "TOML, see https://toml.io"));
    let mend = match what {
        "duplicate key" => "keep one of the two",
        _ => "correct this line or the one before; text needs double quotes, tables a [heading]",
    };
    Problem {
        key: format!("line {line}, column {column}"),
        integration: None,
        variable: None,
        found: format!("is not TOML: {what}"),
        expected: expected.to_owned(),
        mend: mend.to_owned(),
    }
}
