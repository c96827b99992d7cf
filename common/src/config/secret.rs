//! Secrets: text in the file, an environment variable named there, or a file named there. No problem shows any of it.

use std::fs::File;
use std::io::{self, Read as _};

use secrecy::SecretString;
use toml::Value;

use super::entry::{Entry, split_at_commas, table_in, toml_value};
use super::reader::{Place, Section};

/// No secret is larger; a wrong path may lead to something endless.
const LARGEST_FILE_BYTES: u64 = 64 * 1024;

const EXPECTED: &str = "a secret: text, { env = \"NAME\" } or { file = \"PATH\" }";

impl Entry<'_> {
    /// One secret.
    pub(super) fn secret(self) -> Option<SecretString> {
        self.hidden_text().map(SecretString::from)
    }

    /// One secret or a list of them.
    pub(super) fn secrets(self) -> Vec<SecretString> {
        self.one_or_more(|_| None).into_iter().filter_map(Self::secret).collect()
    }

    /// One address that holds a password, or a list of them.
    pub(super) fn secret_addresses(self) -> Vec<Self> {
        // No comma stands in an address unless it is escaped, while a secret may hold any character.
        let split = |text: &str| text.contains(',').then(|| split_at_commas(text));
        self.one_or_more(split)
    }

    /// The text of a secret, from wherever it is.
    pub(super) fn hidden_text(self) -> Option<String> {
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
                Some(if self.is_from_variable { without_line_end(&text) } else { text })
            }
            _ => {
                self.refuse_hidden(EXPECTED, mend(&self.place));
                None
            }
        }
    }

    fn one_or_more(self, split: impl Fn(&str) -> Option<Value>) -> Vec<Self> {
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
fn referred(mut reference: Section<'_>) -> Option<String> {
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

fn from_variable(place: &Place<'_>, variable: Entry<'_>) -> Option<String> {
    let is_name = |text: &str| {
        !text.is_empty()
            && text.len() <= 128
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !text.starts_with(|c: char| c.is_ascii_digit())
    };
    let Some(name) = variable.value.as_str().filter(|text| is_name(text)) else {
        // Somebody may have put the secret itself here.
        variable.refuse_hidden("the name of an environment variable", "name the variable that holds the secret");
        return None;
    };
    let secret = place.context.environment.get(name);
    let found = match secret {
        Some(secret) if !secret.trim().is_empty() => return Some(without_line_end(secret)),
        Some(_) => format!("names the environment variable {name}, which is empty"),
        None => format!("names the environment variable {name}, which is not set"),
    };
    place.problem(found, "a variable that holds the secret", format!("set {name}"));
    None
}

fn from_file(place: &Place<'_>, file: Entry<'_>) -> Option<String> {
    let path = file.text("the path of a file")?;
    let expected = "a file that holds the secret as UTF-8 text";
    match read_small(&path) {
        Ok(text) if text.trim().is_empty() => {
            place.problem(format!("names the file {path:?}, which is empty"), expected, "write the secret into it");
            None
        }
        Ok(text) => Some(without_line_end(&text)),
        Err(why) => {
            let mend = "correct the path (it counts from the working directory) or the file's permissions";
            place.problem(format!("names the file {path:?}, which cannot be read: {why}"), expected, mend);
            None
        }
    }
}

/// Files end with a line end, and so do the variables that are filled from them.
fn without_line_end(secret: &str) -> String {
    secret.trim_end_matches(['\r', '\n']).to_owned()
}

fn read_small(path: &str) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    if !file.metadata()?.is_dir() {
        let size = file.take(LARGEST_FILE_BYTES + 1).read_to_string(&mut text)?;
        if u64::try_from(size).is_ok_and(|size| size <= LARGEST_FILE_BYTES) {
            return Ok(text);
        }
    }
    Err(io::Error::other("it is a directory, or larger than 64 KiB"))
}

fn mend(place: &Place<'_>) -> String {
    let name: String = place.path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let name = name.replace("__", "_").trim_matches('_').to_ascii_uppercase();
    format!("write {{ env = \"{name}\" }} and set that variable")
}
