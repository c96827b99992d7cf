//! One value of the configuration and where it stands. Each method reads it as one type; what does not fit becomes a
//! problem and `None`.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::{Table, Value};

use super::address::Complaint;
use super::{address, duration, nearest, size};
use crate::reader::reach;
use crate::reader::{KeyPath, Section};

/// A value that was set.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) place: KeyPath<'a>,
    pub(crate) value: Value,
    /// Whether it came from an environment variable: text that may stand for any type.
    pub(crate) is_from_variable: bool,
}

impl<'a> Entry<'a> {
    pub(crate) fn new(place: KeyPath<'a>, value: Value) -> Self {
        let is_from_variable = place.context.variables.contains_key(&place.path) && value.is_str();
        Self { place, value, is_from_variable }
    }

    /// Text that `parse` accepts; a refusal says what is expected and how to mend it.
    pub(crate) fn parsed<T>(self, expected: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let Value::String(text) = &self.value else {
            self.refuse(expected, "write it in double quotes");
            return None;
        };
        parse(text).map_err(|mend| self.refuse(expected, mend)).ok()
    }

    /// Text with at least one visible character.
    pub(crate) fn text(self, expected: &str) -> Option<String> {
        let is_filled =
            |text: &str| if text.trim().is_empty() { Err("fill it in".to_owned()) } else { Ok(text.into()) };
        self.parsed(expected, is_filled)
    }

    /// An address that `parse` accepts; shown without its password when it does not.
    pub(crate) fn address(self, parse: impl Fn(&str) -> Result<String, Complaint>) -> Option<String> {
        let place = self.place.clone();
        let text = self.text("a URL")?;
        place.address(&text, parse)
    }

    /// The URL of a server that we call. Plain http to another machine gets a remark: it can be read on the way.
    pub(crate) fn server(self) -> Option<String> {
        let place = self.place.clone();
        let url = self.address(address::server)?;
        if reach::is_plain_and_remote(&url) {
            place.remark("is plain http, so anybody on the way can read credentials and texts", "use https");
        }
        Some(url)
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(self, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let expected = format!("one of \"{}\"", names.join("\", \""));
        self.parsed(&expected, |text| {
            let chosen = choices.iter().find(|(name, _)| *name == text).map(|(_, chosen)| *chosen);
            let mend = || nearest::did_you_mean(text, &names).unwrap_or_else(|| "choose one of them".to_owned());
            chosen.ok_or_else(mend)
        })
    }

    pub(crate) fn boolean(self) -> Option<bool> {
        let value = match &self.value {
            Value::Boolean(value) => Some(*value),
            Value::String(text) if self.is_from_variable => text.trim().parse().ok(),
            _ => None,
        };
        if value.is_none() {
            self.refuse("true or false", "write true or false, without quotes");
        }
        value
    }

    /// A whole number within `range`.
    pub(crate) fn integer<T: TryFrom<i64> + PartialOrd + Display>(self, range: RangeInclusive<T>) -> Option<T> {
        let number = match &self.value {
            Value::Integer(number) => Some(*number),
            Value::String(text) if self.is_from_variable => text.trim().parse().ok(),
            _ => None,
        };
        let fitting = number.and_then(|number| T::try_from(number).ok()).filter(|number| range.contains(number));
        if fitting.is_none() {
            let expected = format!("a whole number from {} to {}", range.start(), range.end());
            self.refuse(&expected, "write such a number, without quotes");
        }
        fitting
    }

    /// A number above zero, up to `largest`.
    pub(crate) fn positive(self, largest: f64) -> Option<f64> {
        let number = match &self.value {
            Value::Float(number) => Some(*number),
            #[allow(clippy::cast_precision_loss, reason = "out of range long before it loses precision")]
            Value::Integer(number) => Some(*number as f64),
            Value::String(text) if self.is_from_variable => text.trim().parse().ok(),
            _ => None,
        };
        let fitting = number.filter(|number| *number > 0.0 && *number <= largest);
        if fitting.is_none() {
            let expected = format!("a number above 0, up to {largest}");
            self.refuse(&expected, "write such a number, without quotes");
        }
        fitting
    }

    /// A duration within `range`.
    pub(crate) fn duration(self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let expected =
            format!("a duration from \"{}\" to \"{}\"", duration::show(*range.start()), duration::show(*range.end()));
        let number = match &self.value {
            Value::String(text) => text.trim().to_owned(),
            other => other.to_string(),
        };
        if number.parse::<f64>().is_ok() {
            let mend =
                format!("say which unit: \"{0}s\" for seconds, \"{0}ms\", \"{0}m\" or \"{0}h\"", shortened(&number));
            self.refuse(&expected, mend);
            return None;
        }
        self.parsed(&expected, |text| {
            let duration = duration::parse(text)
                .ok_or("write whole numbers with a unit, largest first: \"30s\", \"200ms\", \"1h30m\"")?;
            if range.contains(&duration) { Ok(duration) } else { Err("choose one in this range".to_owned()) }
        })
    }

    /// A number of bytes.
    pub(crate) fn size(self) -> Option<u64> {
        let bytes = match &self.value {
            Value::Integer(bytes) => u64::try_from(*bytes).ok(),
            Value::String(text) => size::parse(text),
            _ => None,
        };
        if bytes.is_none() {
            self.refuse(
                "a size such as \"512MiB\" or \"1GiB\"",
                "write a whole number with KiB, MiB or GiB; 0 is none",
            );
        }
        bytes
    }

    /// The items of a list. From an environment variable also text with commas between.
    pub(crate) fn items(self) -> Vec<Self> {
        let value = match self.value {
            Value::String(ref text) if self.is_from_variable => {
                toml_value(text).filter(Value::is_array).unwrap_or_else(|| split_at_commas(text))
            }
            ref other => other.clone(),
        };
        let Value::Array(values) = value else {
            self.refuse_hidden("a list", "write it in brackets, such as [\"one\", \"two\"], or with [[…]] for tables");
            return Vec::new();
        };
        let is_from_variable = self.is_from_variable;
        let item = |(index, value)| Self { is_from_variable, ..Self::new(self.place.item(index), value) };
        values.into_iter().enumerate().map(item).collect()
    }

    /// The table that this value is.
    pub(crate) fn section(self) -> Option<Section<'a>> {
        let table = match self.value {
            Value::Table(ref table) => Some(table.clone()),
            Value::String(ref text) if self.is_from_variable => table_in(text),
            _ => None,
        };
        let Some(table) = table else {
            self.refuse_hidden("a table", "write its keys under a heading of their own, or in braces");
            return None;
        };
        Some(Section::new(self.place, table))
    }

    /// Reports this value as wrong and shows it.
    pub(crate) fn refuse(&self, expected: &str, mend: impl Into<String>) {
        let found = match &self.value {
            Value::String(text) => is_text(text),
            Value::Array(_) | Value::Table(_) => return self.refuse_hidden(expected, mend),
            plain => format!("is {}", shortened(&plain.to_string())),
        };
        self.place.problem(found, expected, mend);
    }

    /// Reports this value as wrong and shows only its type.
    pub(crate) fn refuse_hidden(&self, expected: &str, mend: impl Into<String>) {
        let kind = match &self.value {
            Value::String(text) if text.is_empty() => "is empty",
            Value::String(_) => "is text (not shown here)",
            Value::Integer(_) | Value::Float(_) => "is a number (not shown here)",
            Value::Boolean(_) => "is true or false",
            Value::Datetime(_) => "is a date or time (not shown here)",
            Value::Array(_) => "is a list",
            Value::Table(_) => "is a table",
        };
        self.place.problem(kind, expected, mend);
    }
}

/// The table that `text` spells in TOML.
pub(crate) fn table_in(text: &str) -> Option<Table> {
    match toml_value(text)? {
        Value::Table(table) => Some(table),
        _ => None,
    }
}

/// The list or table that `text` spells in TOML.
pub(crate) fn toml_value(text: &str) -> Option<Value> {
    let is_compound = text.trim_start().starts_with(['[', '{']);
    is_compound.then(|| text.trim().parse().ok()).flatten()
}

pub(crate) fn split_at_commas(text: &str) -> Value {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
}

pub(crate) fn is_text(text: &str) -> String {
    if text.is_empty() { "is empty".to_owned() } else { format!("is {:?}", shortened(text)) }
}

fn shortened(text: &str) -> String {
    let start: String = text.chars().take(80).collect();
    if start.len() < text.len() { format!("{start}…") } else { start }
}
