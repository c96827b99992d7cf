//! What is legal but suspicious in a configuration: where, what it is, how to mend it.

use std::fmt;

/// One thing that is legal but suspicious. Shows no secret, no password in a URL and no whole phone number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The key, such as `integrations[0].twilio.auth_token`.
    pub key: String,
    /// The id of the integration that the key belongs to, when known.
    pub integration: Option<String>,
    /// The environment variable that set the key, when one did.
    pub variable: Option<String>,
    /// What is suspicious.
    pub found: String,
    /// What to do about it.
    pub mend: String,
}

/// One line.
impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        if let Some(id) = &self.integration {
            write!(f, " (integration \"{id}\")")?;
        }
        if let Some(variable) = &self.variable {
            write!(f, ", set by {variable},")?;
        }
        write!(f, " {}: {}", self.found, self.mend)
    }
}
