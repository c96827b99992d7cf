//! Secrets: text in the file, an environment variable named there, or a file named there. No problem shows any of it.

use std::path::Path;

use secrecy::ExposeSecret as _;
use secret::{Secret, without_line_end};
use toml::Value;

use super::entry::{Entry, split_at_commas, table_in, toml_value};
use super::suspicion;
use crate::reader::{KeyPath, Section};

const EXPECTED: &str = "a secret: text, { env = \"NAME\" } or { file = \"PATH\" }";

impl Entry<'_> {
    /// One secret. A secret that looks wrong gets a remark.
    pub(crate) fn secret(self) -> Option<Secret> {
        let place = self.place.clone();
        let secret = self.hidden()?;
        if let Some((found, mend)) = suspicion::of(secret.current().expose_secret()) {
            place.remark(found, mend);
        }
        Some(secret)
    }

    /// One secret or a list of them.
    pub(crate) fn secrets(self) -> Vec<Secret> {
        self.one_or_more(mend, |_| None).into_iter().filter_map(Self::secret).collect()
    }

    /// One address that holds a password, or a list of them.
    pub(crate) fn secret_addresses(self) -> Vec<Self> {
        // An address holds no unescaped comma, while a secret may hold any character.
        let split = |text: &str| text.contains(',').then(|| split_at_commas(text));
        self.one_or_more(mend, split)
    }

    /// The text of a secret, also of one that refers to a variable or a file.
    pub(crate) fn hidden_text(self) -> Option<String> {
        self.hidden().map(|secret| secret.current().expose_secret().to_owned())
    }

    fn hidden(self) -> Option<Secret> {
        let reference = match &self.value {
            Value::String(text) if self.is_from_variable => table_in(text),
            Value::Table(table) => Some(table.clone()),
            _ => None,
        };
        if let Some(table) = reference {
            return referred(Section::new(self.place, table));
        }
        match self.value {
            Value::String(text) if !text.trim().is_empty() => {
                Some(if self.is_from_variable { without_line_end(&text) } else { text }.into())
            }
            _ => {
                self.refuse_hidden(EXPECTED, mend(&self.place));
                None
            }
        }
    }

    /// The items of this list, or this value alone. `mend` says what to do about an empty list. `split` finds a list in
    /// text from an environment variable.
    pub(crate) fn one_or_more(
        self,
        mend: impl Fn(&KeyPath<'_>) -> String,
        split: impl Fn(&str) -> Option<Value>,
    ) -> Vec<Self> {
        let list = match &self.value {
            Value::String(text) if self.is_from_variable => {
                toml_value(text).filter(Value::is_array).or_else(|| split(text))
            }
            Value::Array(_) => Some(self.value.clone()),
            _ => None,
        };
        let Some(Value::Array(values)) = list else { return vec![self] };
        if values.is_empty() {
            self.place.problem("is an empty list", "at least one", mend(&self.place));
        }
        let is_from_variable = self.is_from_variable;
        let item = |(index, value)| Self { is_from_variable, ..Self::new(self.place.item(index), value) };
        values.into_iter().enumerate().map(item).collect()
    }
}

/// What `{ env = "NAME" }` or `{ file = "PATH" }` refers to.
fn referred(mut reference: Section<'_>) -> Option<Secret> {
    let place = reference.place.clone();
    let variable = reference.take("env");
    let file = reference.take("file");
    reference.finish();
    match (variable, file) {
        (Some(variable), None) => from_variable(&place, variable),
        (None, Some(file)) => from_file(&place, file),
        (Some(_), Some(_)) => {
            place.problem("has both env and file", EXPECTED, "keep one of the two");
            None
        }
        (None, None) => {
            place.problem("has neither env nor file", EXPECTED, mend(&place));
            None
        }
    }
}

fn from_variable(place: &KeyPath<'_>, variable: Entry<'_>) -> Option<Secret> {
    let is_name = |text: &str| {
        !text.is_empty()
            && text.len() <= 128
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !text.starts_with(|c: char| c.is_ascii_digit())
    };
    let Some(name) = variable.value.as_str().filter(|text| is_name(text)) else {
        // The value may be the secret itself, put here by mistake.
        variable.refuse_hidden("the name of an environment variable", "name the variable that holds the secret");
        return None;
    };
    let secret = place.context.environment.get(name);
    let found = match secret {
        Some(secret) if !secret.trim().is_empty() => return Some(without_line_end(secret).into()),
        Some(_) => format!("names the environment variable {name}, which is empty"),
        None => format!("names the environment variable {name}, which is not set"),
    };
    place.problem(found, "a variable that holds the secret", format!("set {name}"));
    None
}

fn from_file(place: &KeyPath<'_>, file: Entry<'_>) -> Option<Secret> {
    let path = file.text("the path of a file")?;
    let secret = Secret::in_file(Path::new(&path));
    let refuse = |why| {
        let expected = "a file that holds the secret as UTF-8 text, at most 64 KiB";
        let mend = "correct the path (it counts from the working directory), the file's permissions or what it holds";
        place.problem(format!("names the file {path:?}, which cannot be read: {why}"), expected, mend);
    };
    secret.map_err(refuse).ok()
}

fn mend(place: &KeyPath<'_>) -> String {
    let name: String = place.path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let name = name.replace("__", "_").trim_matches('_').to_ascii_uppercase();
    format!("write {{ env = \"{name}\" }} and set that variable")
}
