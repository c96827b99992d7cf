//! Runs the real ingress on the given data directory until it is killed. Its broker does not exist. It prints the URL
//! to which the simulated provider's webhooks go.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use broker::Topology;
use broker::rabbitmq::RabbitMq;
use message::clock::Clock;
use message::shutdown::Shutdown;
use tests::samples::front_door;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() {
    let data_dir = PathBuf::from(std::env::args().nth(1).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let config = front_door(data_dir, &url);
    // No server listens on this port.
    let broker = Arc::new(RabbitMq::new(vec!["amqp://127.0.0.1:1".into()], Topology::new("away", 1)));
    let shutdown = Shutdown::new(Duration::ZERO);
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{url}").unwrap();
    stdout.flush().unwrap();
    ingress::run(listener, &config, broker, Clock::system(), Arc::default(), shutdown).await.unwrap();
}
