//! The part of the configuration that says where the queues are. It is enough for commands that use only the queues,
//! also on machines where the rest is not configured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::reader::file;
use crate::{BrokerConfig, Clients, Problem, Problems, walk};

/// Where the queues are.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// The directory of the embedded queues.
    pub data_dir: PathBuf,
    /// The queues.
    pub broker: BrokerConfig,
}

impl QueueConfig {
    /// Reads as [`crate::Config::load`] does, and ignores what is wrong or missing elsewhere, such as secrets of the
    /// integrations that only the services know.
    ///
    /// # Errors
    /// Everything that is wrong with `broker` and `data_dir`, at once.
    pub fn load(
        path: Option<&Path>,
        environment: &BTreeMap<String, String>,
        clients: Clients,
    ) -> Result<Self, Problems> {
        let walked = walk(&file::text(path, environment)?, environment, clients)?;
        Problems::none_in(walked.problems.into_iter().filter(concerns_queues).collect())?;
        Ok(Self { data_dir: walked.config.data_dir, broker: walked.config.broker })
    }
}

fn concerns_queues(problem: &Problem) -> bool {
    // A problem with a variable itself has the variable's name as its key.
    let ours = ["broker", "data_dir", "SWITCHBOARD__BROKER", "SWITCHBOARD__DATA_DIR"];
    ours.iter().any(|ours| problem.key.starts_with(ours))
}
