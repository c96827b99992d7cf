//! The embedded adapters of both ports: queues and records in one SQLite file, so that one process needs no server.

mod file;
mod queue;
mod records;

pub use file::Database;
pub use queue::EmbeddedBroker;
pub use records::EmbeddedStore;
