//! `switchboard simulator`: the simulated services and the phone page as a server of their own.

use std::time::Duration;

use anyhow::Context as _;
use message::shutdown::Shutdown;
use simulator::{Simulator, SimulatorConfig};

use crate::{args, print, signals};

/// How much history the simulator keeps: enough for the phone page, little enough for a server that runs for months.
const KEEP: usize = 1000;

/// Serves until a signal.
pub(crate) async fn run(args: args::Simulator) -> anyhow::Result<()> {
    let shutdown = Shutdown::new(Duration::ZERO);
    signals::listen(shutdown.clone())?;
    signals::read_again(Vec::new())?;
    let mut config = SimulatorConfig { listen: args.listen, keep: KEEP, ..SimulatorConfig::demo() };
    for number in &mut config.twilio.numbers {
        number.webhook = Some(args.webhook.clone());
    }
    for number in &mut config.intelepeer.numbers {
        number.webhook.clone_from(&args.intelepeer_webhook);
    }
    let simulator = Simulator::start(config).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    print(&format!("Simulated Twilio, IntelePeer, watsonx Assistant and phone: {}", simulator.url()));
    shutdown.started().await;
    simulator.stop().await;
    Ok(())
}
