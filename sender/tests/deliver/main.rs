//! The real deliverer against simulated providers.

mod intelepeer;
mod ledger;
mod rig;
mod twilio;
