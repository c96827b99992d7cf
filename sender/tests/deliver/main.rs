//! The real deliverer against simulated providers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, and so may what it is made of")]

mod clock;
mod doubt;
mod intelepeer;
mod ledger;
mod pause;
mod rig;
mod twilio;
