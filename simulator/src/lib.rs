//! Twilio, IntelePeer and watsonx Assistant v2 as local servers with faults on demand, and a virtual phone.
//!
//! It is an independent judge: it refuses the requests that the real services refuse, keeps all that it received, and
//! shares no code with the crates it judges. No service imports it; only `cli` does, for the demo and for `switchboard
//! simulator`.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use simulator::{Fault, Route, Simulator, SimulatorConfig};
//!
//! let simulator = Simulator::start(SimulatorConfig::demo()).await?;
//! simulator.set_webhook("+12125550100", "http://127.0.0.1:8080/webhooks/demo/messages");
//! simulator.fail(Route::TwilioSend, Fault::status(503).times(2));
//! let phone = simulator.phone();
//! phone.text("+14155550101", "+12125550100", "hello").await?;
//! let reply = phone.wait_for_reply("+14155550101", 0, Duration::from_secs(10)).await?;
//! assert!(reply.body.contains("Opening hours"));
//! simulator.stop().await;
//! # Ok(())
//! # }
//! ```

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
pub use twilio::{CallbackFrom, TwilioQuirks};
pub use watsonx::{Answer, AssistantHandle, Turn};
