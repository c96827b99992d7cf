//! The settings of an assistant.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// Which assistant answers, and where it is.
#[derive(Debug, Clone)]
pub enum AssistantSettings {
    /// IBM watsonx Assistant, v2 API.
    Watsonx(Box<WatsonxSettings>),
    /// A small dialogue from a file, or the one built in.
    Scripted(ScriptedSettings),
}

impl AssistantSettings {
    /// The assistant's name in configuration, metrics and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Watsonx(_) => "watsonx",
            Self::Scripted(_) => "scripted",
        }
    }
}

/// A watsonx Assistant and its backups.
#[derive(Debug, Clone)]
pub struct WatsonxSettings {
    /// Where it is first looked for, then each backup in order. Never empty.
    pub locations: Vec<WatsonxLocation>,
    /// How long one call may take; default 30 s.
    pub timeout: Duration,
    /// How many more calls follow one that failed for a passing reason; default 2.
    pub retries: u32,
    /// How long to wait between them; default 2 s.
    pub retry_interval: Duration,
}

impl WatsonxSettings {
    /// An assistant at `locations`, of which there must be one, with the defaults for everything else.
    #[must_use]
    pub fn new(locations: Vec<WatsonxLocation>) -> Self {
        Self { locations, timeout: Duration::from_secs(30), retries: 2, retry_interval: Duration::from_secs(2) }
    }
}

/// One place where the assistant runs.
#[derive(Debug, Clone)]
pub struct WatsonxLocation {
    /// The service URL with the instance, without a trailing slash.
    pub url: String,
    /// The assistant's id (or, with the older paths, the environment's).
    pub assistant_id: String,
    /// With it, the newer paths are used.
    pub environment_id: Option<String>,
    /// The API version, a date.
    pub version: String,
    /// How we prove ourselves.
    pub auth: AssistantAuth,
}

/// How we prove ourselves to an assistant.
#[derive(Debug, Clone)]
pub enum AssistantAuth {
    /// HTTP Basic with the user `apikey`.
    ApiKey(SecretString),
    /// The key is exchanged for an IAM token at `url` + `/identity/token`.
    Iam {
        /// The key.
        apikey: SecretString,
        /// The token service; default `https://iam.cloud.ibm.com`.
        url: String,
    },
    /// A token that never changes.
    Bearer(SecretString),
    /// A Cloud Pak user, exchanged for a token at `url` + `/v1/authorize`.
    CloudPak {
        /// The token service.
        url: String,
        /// The user.
        username: String,
        /// The password or API key.
        secret: CloudPakSecret,
    },
    /// No proof.
    None,
}

/// What a Cloud Pak user proves itself with.
#[derive(Debug, Clone)]
pub enum CloudPakSecret {
    /// Its password.
    Password(SecretString),
    /// Its API key.
    ApiKey(SecretString),
}

/// A scripted dialogue.
#[derive(Debug, Clone, Default)]
pub struct ScriptedSettings {
    /// The TOML file; without one the built-in dialogue answers.
    pub file: Option<PathBuf>,
}
