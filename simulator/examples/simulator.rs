//! Starts the simulator alone, on the address given or on a free port, until it is interrupted:
//! `cargo run -p simulator --example simulator -- 127.0.0.1:4010`.

use simulator::{Simulator, SimulatorConfig};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut config = SimulatorConfig::demo();
    if let Some(listen) = std::env::args().nth(1) {
        config.listen = listen.parse().map_err(std::io::Error::other)?;
    }
    let simulator = Simulator::start(config).await?;
    #[expect(clippy::print_stdout, reason = "the one result of this program")]
    {
        println!("{}", simulator.url());
    }
    tokio::signal::ctrl_c().await?;
    simulator.stop().await;
    Ok(())
}
