//! The settings of an assistant.

use std::path::PathBuf;
use std::time::Duration;

use secret::Secret;

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

    /// Every secret of the assistant.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        match self {
            Self::Watsonx(watsonx) => watsonx.locations.iter().filter_map(|at| at.auth.secret().cloned()).collect(),
            Self::Scripted(_) => Vec::new(),
        }
    }
}

/// A watsonx Assistant and its backups.
#[derive(Debug, Clone)]
pub struct WatsonxSettings {
    /// The first location, then the backups in order. Never empty.
    pub locations: Vec<WatsonxLocation>,
    /// How long one call may take; default 30 s.
    pub timeout: Duration,
    /// How many more calls follow one that failed for a temporary reason; default 2.
    pub retries: u32,
    /// How long to wait between them; default 2 s.
    pub retry_interval: Duration,
}

impl WatsonxSettings {
    /// How long one exchange may take when every call at every location times out.
    #[must_use]
    pub fn longest_exchange(&self) -> Duration {
        let location = self.timeout.saturating_mul(self.retries + 1) + self.retry_interval.saturating_mul(self.retries);
        location.saturating_mul(u32::try_from(self.locations.len()).unwrap_or(u32::MAX))
    }

    /// An assistant at `locations`, at least one, with the defaults for everything else.
    #[must_use]
    pub fn new(locations: Vec<WatsonxLocation>) -> Self {
        Self { locations, timeout: Duration::from_secs(30), retries: 2, retry_interval: Duration::from_secs(2) }
    }
}

/// The longest that a turn may take, with every retry and backup: 10 minutes, a third of the 30 minutes after which
/// RabbitMQ considers a delivery lost. The delivery may also have to wait for the turn before it in the conversation,
/// which may take as long.
pub const LONGEST_TURN: Duration = Duration::from_secs(10 * 60);

/// One place where the assistant runs.
#[derive(Debug, Clone)]
pub struct WatsonxLocation {
    /// The service URL with the instance, without a trailing slash.
    pub url: String,
    /// The assistant's id (or, with the older paths, the environment's).
    pub assistant_id: String,
    /// The environment's id. If set, the newer paths are used.
    pub environment_id: Option<String>,
    /// The API version, a date.
    pub version: String,
    /// How we authenticate.
    pub auth: AssistantAuth,
}

/// How we authenticate to an assistant.
#[derive(Debug, Clone)]
pub enum AssistantAuth {
    /// HTTP Basic with the user `apikey`.
    ApiKey(Secret),
    /// The key is exchanged for an IAM token at `url` + `/identity/token`.
    Iam {
        /// The key.
        apikey: Secret,
        /// The token service; default `https://iam.cloud.ibm.com`.
        url: String,
    },
    /// A token that never changes.
    Bearer(Secret),
    /// A Cloud Pak user, exchanged for a token at `url` + `/v1/authorize`.
    CloudPak {
        /// The token service.
        url: String,
        /// The user.
        username: String,
        /// The password or API key.
        secret: CloudPakSecret,
    },
    /// No authentication.
    None,
}

impl AssistantAuth {
    /// The secret that we authenticate with; `None` without authentication.
    #[must_use]
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::ApiKey(secret) | Self::Bearer(secret) | Self::Iam { apikey: secret, .. } => Some(secret),
            Self::CloudPak { secret: CloudPakSecret::Password(secret) | CloudPakSecret::ApiKey(secret), .. } => {
                Some(secret)
            }
            Self::None => None,
        }
    }
}

/// The secret of a Cloud Pak user.
#[derive(Debug, Clone)]
pub enum CloudPakSecret {
    /// Its password.
    Password(Secret),
    /// Its API key.
    ApiKey(Secret),
}

/// A scripted dialogue.
#[derive(Debug, Clone, Default)]
pub struct ScriptedSettings {
    /// The TOML file; without one the built-in dialogue answers.
    pub file: Option<PathBuf>,
}
