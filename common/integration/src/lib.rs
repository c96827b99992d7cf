//! An integration binds a provider account and its numbers to an assistant. These are the settings as the services use
//! them; the crate `config` reads them from the configuration file.

mod assistant;
mod options;

use std::collections::BTreeMap;
use std::sync::Arc;

use message::{Address, IntegrationId};
use providers::ProviderSettings;
use secret::Secret;

pub use assistant::{
    AssistantAuth, AssistantSettings, CloudPakSecret, LONGEST_TURN, ScriptedSettings, WatsonxLocation, WatsonxSettings,
};
pub use options::Options;

/// One integration's settings.
#[derive(Debug, Clone)]
pub struct Integration {
    /// Its name, which stands in the webhook URL.
    pub id: IntegrationId,
    /// Our numbers; empty means any number that the provider posts for.
    pub numbers: Vec<Address>,
    /// The provider account that carries the texts.
    pub provider: ProviderSettings,
    /// The assistant that answers.
    pub assistant: AssistantSettings,
    /// How it answers.
    pub options: Options,
}

impl Integration {
    /// Every secret that it is configured with.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        self.provider.secrets().into_iter().chain(self.assistant.secrets()).collect()
    }

    /// Whether `number` is one of ours.
    #[must_use]
    pub fn has_number(&self, number: &Address) -> bool {
        self.numbers.is_empty() || self.numbers.contains(number)
    }
}

/// All integrations, by id. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Integrations(Arc<BTreeMap<IntegrationId, Arc<Integration>>>);

impl Integrations {
    /// The integration named `id`.
    #[must_use]
    pub fn get(&self, id: &IntegrationId) -> Option<&Arc<Integration>> {
        self.0.get(id)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Integration>> {
        self.0.values()
    }
}

impl FromIterator<Integration> for Integrations {
    fn from_iter<T: IntoIterator<Item = Integration>>(all: T) -> Self {
        Self(Arc::new(all.into_iter().map(|one| (one.id.clone(), Arc::new(one))).collect()))
    }
}
