//! What is wrong with a configuration: where, what was found, what is expected, how to mend it.

use std::error::Error;
use std::fmt;
use std::slice;
use std::vec;

/// One thing that is wrong. Shows no secret, no password in a URL and no whole phone number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, such as `integrations[0].twilio.auth_token`, or the file when it could not be read.
    pub key: String,
    /// The id of the integration that the key belongs to, when known.
    pub integration: Option<String>,
    /// The environment variable that set the key, when one did.
    pub variable: Option<String>,
    /// What was found there.
    pub found: String,
    /// What is expected there.
    pub expected: String,
    /// What to do about it.
    pub mend: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        if let Some(id) = &self.integration {
            write!(f, " (integration \"{id}\")")?;
        }
        writeln!(f, ": {}", self.found)?;
        if let Some(variable) = &self.variable {
            writeln!(f, "    set by:   the environment variable {variable}")?;
        }
        writeln!(f, "    expected: {}", self.expected)?;
        write!(f, "    mend:     {}", self.mend)
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// `Err` when there is any problem.
    pub(crate) fn none_in(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }

    /// These problems, of which there must be one.
    pub(crate) fn of(problems: Vec<Problem>) -> Self {
        Self(problems)
    }

    /// The problems, in the order of the keys.
    pub fn iter(&self) -> slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = vec::IntoIter<Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = slice::Iter<'a, Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One paragraph a problem, and their count at the end.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self {
            writeln!(f, "{problem}\n")?;
        }
        let count = self.0.len();
        write!(f, "{count} {} in the configuration", if count == 1 { "problem" } else { "problems" })
    }
}

impl Error for Problems {}
