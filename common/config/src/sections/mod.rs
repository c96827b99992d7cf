//! The sections of the configuration, one file for each heading.

mod assistant;
mod credentials;
mod defaults;
mod integrations;
mod options;
mod provider;
mod queues;
mod report;
mod services;

pub use queues::QueueConfig;
pub use report::report;

pub(crate) use services::config;
