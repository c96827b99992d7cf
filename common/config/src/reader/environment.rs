//! The environment: every key of the file is also a variable, such as `SWITCHBOARD__INGRESS__LISTEN`, and wins over it.

use std::collections::BTreeMap;
use std::env;

use toml::{Table, Value};

use super::problem::Problem;

const PREFIX: &str = "SWITCHBOARD__";
/// How many levels a key may have. No key has more; the deepest is
/// `integrations[0].assistant.backups[0].auth.apikey.env`.
const DEEPEST: usize = 10;

/// The process's environment; variables that are not Unicode cannot be ours and are left out.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
pub fn environment() -> BTreeMap<String, String> {
    env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// The variable that sets `key`, such as `SWITCHBOARD__INTEGRATIONS__0__ID` for `integrations[0].id`.
#[cfg(test)]
pub(crate) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('[', ".").replace(']', "").replace('.', "__").to_ascii_uppercase())
}

/// The result of the overlay: which key was set by which variable, and what was wrong.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) problems: Vec<Problem>,
}

/// Writes the values of the variables into `table`.
pub(crate) fn overlay(table: &mut Table, environment: &BTreeMap<String, String>) -> Overlay {
    let mut done = Overlay::default();
    let ours = environment.iter().filter_map(|(name, text)| Some((steps_of(name)?, name, text)));
    // Parents before children, and item 2 before item 10.
    let mut ours: Vec<_> = ours.collect();
    ours.sort_by_cached_key(|(steps, ..)| {
        let order = |step: &String| (step.parse::<usize>().unwrap_or(usize::MAX), step.clone());
        steps.iter().map(order).collect::<Vec<_>>()
    });
    for (steps, name, text) in ours {
        let mut root = Value::Table(std::mem::take(table));
        match set(&mut root, &steps, text, String::new(), &done.variables) {
            Ok(path) => drop(done.variables.insert(path, name.clone())),
            Err((found, mend)) => done.problems.push(problem(name, found, mend)),
        }
        if let Value::Table(overlaid) = root {
            *table = overlaid;
        }
    }
    done
}

fn steps_of(name: &str) -> Option<Vec<String>> {
    let rest = name.strip_prefix(PREFIX)?;
    Some(rest.split("__").map(str::to_ascii_lowercase).collect())
}

/// Sets one value and returns its key, or what is wrong with the name and how to mend it.
fn set(
    node: &mut Value,
    steps: &[String],
    text: &str,
    path: String,
    variables: &BTreeMap<String, String>,
) -> Result<String, (String, String)> {
    let Some((step, rest)) = steps.split_first() else {
        *node = Value::String(text.to_owned());
        return Ok(path);
    };
    if step.is_empty() || steps.len() > DEEPEST {
        let mend = format!("put two underscores between the levels, as in {PREFIX}INGRESS__LISTEN");
        return Err(("names no key".to_owned(), mend));
    }
    let index = step.parse::<usize>().ok();
    if !node.is_table() && !node.is_array() {
        if let Some(other) = variables.get(&path) {
            return Err((format!("sets a part of what {other} sets as a whole"), "keep one of the two".to_owned()));
        }
        *node = if index.is_some() { Value::Array(Vec::new()) } else { Value::Table(Table::new()) };
    }
    match (node, index) {
        (Value::Array(items), Some(index)) => {
            let count = items.len();
            if index == count {
                items.push(Value::Boolean(false));
            }
            let item = items.get_mut(index).ok_or_else(|| {
                let mend = format!("number them from 0 without gaps; the next one is {count}");
                (format!("names item {index} of `{path}`, which has {count}"), mend)
            })?;
            set(item, rest, text, format!("{path}[{index}]"), variables)
        }
        (Value::Table(table), _) => {
            let path = if path.is_empty() { step.clone() } else { format!("{path}.{step}") };
            let node = table.entry(step.clone()).or_insert(Value::Boolean(false));
            set(node, rest, text, path, variables)
        }
        _ => {
            let mend = "put the item's number after it, as in SWITCHBOARD__INTEGRATIONS__0__ID".to_owned();
            Err((format!("names `{step}` in `{path}`, which is a list"), mend))
        }
    }
}

fn problem(name: &str, found: String, mend: String) -> Problem {
    let key: String = name.chars().take(120).filter(|c| !c.is_control()).collect();
    let expected = "the name of a key, such as SWITCHBOARD__INGRESS__LISTEN".to_owned();
    Problem { key, integration: None, variable: None, found, expected, mend }
}
