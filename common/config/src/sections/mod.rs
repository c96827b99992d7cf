//! What Switchboard is configured with, a file for each heading.

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
