//! How messages are worked on: a [`Handler`] decides what a delivery means, and only the loop of [`run()`] settles. It
//! publishes the handler's effects, waits for confirms, then settles.

mod decision;
mod heartbeats;
mod item;
mod lanes;
mod poison;
mod ports;
mod progress;
mod room;
mod run;

pub mod spool_status;

pub use decision::{Decision, Handler, LaneState, Outcome, RefusalRule, Settlement};
pub use heartbeats::{Rhythm, is_heartbeat};
pub use ports::Ports;
pub use progress::{Held, Progress, Pulse, StageProgress};
pub use run::{RunOptions, run};
