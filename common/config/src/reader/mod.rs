//! Walks a TOML table key by key. Taking a key removes it, so what is left at the end is unknown; problems are
//! collected on the way, never returned one by one.

pub(crate) mod address;
pub(crate) mod duration;
pub(crate) mod entry;
pub(crate) mod environment;
pub(crate) mod file;
mod nearest;
pub(crate) mod problem;
pub(crate) mod reach;
pub(crate) mod remark;
mod secret;
mod size;
mod suspicion;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::reader::address::Complaint;
use crate::reader::entry::{Entry, is_text};
use crate::reader::nearest::did_you_mean;
use crate::reader::problem::Problem;
use crate::reader::remark::Remark;

/// Which addresses the clients of RabbitMQ and Redis understand: a well-formed URL can still hold something that the
/// client does not know, such as a parameter. Passed in, so that reading a configuration needs no client.
#[derive(Debug, Clone, Copy)]
pub struct Clients {
    /// Whether RabbitMQ's client understands this URL.
    pub amqp: fn(&str) -> bool,
    /// Whether Redis' client understands this URL.
    pub redis: fn(&str) -> bool,
}

/// What the whole walk shares.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// Where secrets named by `{ env = "NAME" }` are looked up.
    pub(crate) environment: &'a BTreeMap<String, String>,
    /// Which addresses the clients of the servers understand.
    pub(crate) clients: Clients,
    /// Which key was set by which environment variable.
    pub(crate) variables: BTreeMap<String, String>,
    /// Everything wrong so far.
    pub(crate) problems: RefCell<Vec<Problem>>,
    /// Everything legal but suspicious so far.
    pub(crate) remarks: RefCell<Vec<Remark>>,
    /// Every key that was asked for, without list positions: `integrations[].id`.
    pub(crate) known: RefCell<BTreeSet<String>>,
}

/// A key's position in the configuration, and where problems with it go.
#[derive(Debug, Clone)]
pub(crate) struct KeyPath<'a> {
    pub(crate) context: &'a Context<'a>,
    /// Such as `integrations[0].twilio`; empty at the top.
    pub(crate) path: String,
    /// The integration that it belongs to, when known.
    pub(crate) integration: Option<String>,
}

impl KeyPath<'_> {
    /// The path of `key` in this table.
    pub(crate) fn key(&self, key: &str) -> Self {
        let path = if self.path.is_empty() { printable(key) } else { format!("{}.{}", self.path, printable(key)) };
        Self { path, ..self.clone() }
    }

    /// The path of the item at `index` in this list.
    pub(crate) fn item(&self, index: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path), ..self.clone() }
    }

    /// Reports what is wrong here.
    pub(crate) fn problem(&self, found: impl Into<String>, expected: impl Into<String>, mend: impl Into<String>) {
        self.context.problems.borrow_mut().push(Problem {
            key: self.path.clone(),
            integration: self.integration.clone(),
            variable: self.variable(),
            found: found.into(),
            expected: expected.into(),
            mend: mend.into(),
        });
    }

    /// The address in `text` if `parse` accepts it; shown without its password if not.
    pub(crate) fn address(&self, text: &str, parse: impl Fn(&str) -> Result<String, Complaint>) -> Option<String> {
        let complain = |(expected, mend)| self.problem(is_text(&address::masked(text)), expected, mend);
        parse(text).map_err(complain).ok()
    }

    /// Reports what is legal but suspicious here.
    pub(crate) fn remark(&self, found: impl Into<String>, mend: impl Into<String>) {
        self.context.remarks.borrow_mut().push(Remark {
            key: self.path.clone(),
            integration: self.integration.clone(),
            variable: self.variable(),
            found: found.into(),
            mend: mend.into(),
        });
    }

    /// The variable that set this key, something inside it, or the whole that it is part of.
    fn variable(&self) -> Option<String> {
        let is_inside = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let variables = self.context.variables.iter();
        variables
            .filter(|(path, _)| is_inside(path, &self.path) || is_inside(&self.path, path))
            .map(|(_, variable)| variable.clone())
            .next()
    }
}

/// One table of the configuration.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub(crate) place: KeyPath<'a>,
    table: Table,
    asked: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(crate) fn new(place: KeyPath<'a>, table: Table) -> Self {
        Self { place, table, asked: Vec::new() }
    }

    /// The top table.
    pub(crate) fn root(context: &'a Context<'a>, table: Table) -> Self {
        Self::new(KeyPath { context, path: String::new(), integration: None }, table)
    }

    /// Whether `key` was set and not yet taken.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The text at `key`, which is not taken.
    pub(crate) fn peek_text(&self, key: &str) -> Option<&str> {
        self.table.get(key).and_then(Value::as_str)
    }

    /// Takes the value at `key`, if it is set.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.asked.push(key);
        let place = self.place.key(key);
        place.context.known.borrow_mut().insert(without_positions(&place.path));
        let value = self.table.remove(key)?;
        Some(Entry::new(place, value))
    }

    /// Takes the value at `key`; its absence is a problem.
    pub(crate) fn require(&mut self, key: &'static str, expected: &str) -> Option<Entry<'a>> {
        let entry = self.take(key);
        if entry.is_none() {
            let place = self.place.key(key);
            place.problem("is missing", expected, format!("add `{key}` under {}", self.header()));
        }
        entry
    }

    /// The table at `key`, empty if it is absent.
    pub(crate) fn section(&mut self, key: &'static str) -> Self {
        let place = self.place.key(key);
        self.take(key).and_then(Entry::section).unwrap_or_else(|| Self::new(place, Table::new()))
    }

    /// The tables of the list at `key`.
    pub(crate) fn sections(&mut self, key: &'static str) -> Vec<Self> {
        self.take(key).map(Entry::items).unwrap_or_default().into_iter().filter_map(Entry::section).collect()
    }

    /// Ends the walk of this table: each key that was not asked for is reported as unknown.
    pub(crate) fn finish(self) {
        for key in self.table.keys() {
            let mend = did_you_mean(key, &self.asked).unwrap_or_else(|| "remove it, or correct its name".to_owned());
            let known = format!("one of the keys {}", self.asked.join(", "));
            self.place.key(key).problem("is not a known key", known, mend);
        }
    }

    /// How this table's heading looks in the file.
    fn header(&self) -> String {
        match (self.place.path.as_str(), self.place.path.strip_suffix(']')) {
            ("", _) => "no heading, at the top of the file".to_owned(),
            (path, None) => format!("[{}]", without_positions(path).replace("[]", "")),
            (path, Some(_)) => format!("[[{}]]", without_positions(path).replace("[]", "")),
        }
    }
}

/// `integrations[0].id` as `integrations[].id`.
fn without_positions(path: &str) -> String {
    let mut is_inside = false;
    let keep = |c: &char| {
        let was_inside = is_inside;
        is_inside = *c == '[' || (is_inside && *c != ']');
        !was_inside || *c == ']'
    };
    path.chars().filter(keep).collect()
}

/// A key from the file, safe for a terminal: at most 80 characters, quoted and escaped unless it is a bare key.
fn printable(key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let short: String = key.chars().take(80).collect();
    if is_bare { short } else { format!("{short:?}") }
}
