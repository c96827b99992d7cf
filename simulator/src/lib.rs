//! Twilio, IntelePeer and watsonx Assistant v2 as local servers with faults on demand, and a virtual phone.
//!
//! It is an independent judge: it refuses what the real services refuse, remembers all it received, and shares no code
//! with the crates it judges. Production crates never import it.

mod clock;
pub mod config;
mod desk;
pub mod faults;
pub mod intelepeer;
pub mod journal;
mod line;
pub mod phone;
mod route;
mod server;
pub mod twilio;
pub mod watsonx;
mod world;

pub use config::{Number, Receipt, Receipts, SimulatorConfig, WebhookMethod};
pub use faults::{Fault, FaultPlan};
pub use journal::{Callback, Direction, Event, Message, MessageState, RequestRecord};
pub use phone::{NoReply, Phone, PhoneError, Text, WebhookAnswer};
pub use route::{Route, Service};
pub use server::Simulator;
pub use watsonx::{Answer, AssistantHandle, Turn};
