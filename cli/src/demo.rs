//! The demo: the real ingress, worker and sender in one process, with simulated Twilio and the scripted assistant.
//! Texts come from the phone page, the terminal or `--say`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use broker::Broker;
use config::Config;
use integration::{AssistantSettings, Integration, Options, ScriptedSettings};
use message::IntegrationId;
use message::clock::Clock;
use message::shutdown::Shutdown;
use providers::ProviderSettings;
use providers::twilio::TwilioSettings;
use simulator::{Direction, Event, Message, Simulator, SimulatorConfig};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::roles::{self, Role, Running};
use crate::{args, print, signals};

/// The customer who texts from the terminal.
const CUSTOMER: &str = "+13035550142";
/// Shutdown grace, 5 s: everything in the demo is local and answers at once.
const GRACE: Duration = Duration::from_secs(5);
/// How long a turn may take, 30 s: a longer one has failed.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the queue depths are polled, every 2 ms: far below what a person notices.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Runs the demo until a signal, or until everything in `--say` is answered.
pub(crate) async fn run(args: args::Demo) -> anyhow::Result<()> {
    let shutdown = Shutdown::new(GRACE);
    signals::listen(shutdown.clone())?;
    signals::read_again(Vec::new())?;
    let directory = fresh_directory(&args.data_dir)?;
    let demo = Demo::start(&args, directory.path(), &shutdown).await?;
    let outcome = if args.say.is_empty() { demo.serve(&shutdown).await } else { demo.say(&args.say).await };
    shutdown.start();
    let Demo { running, simulator, .. } = demo;
    let finished = running.finished(&shutdown).await;
    simulator.stop().await;
    outcome.and(finished)
}

/// Makes a directory for this demo alone: a demo starts empty, and two demos share no files. It is removed when the
/// demo ends.
fn fresh_directory(data_dir: &Path) -> anyhow::Result<TempDir> {
    let made =
        std::fs::create_dir_all(data_dir).and_then(|()| tempfile::Builder::new().prefix("demo-").tempdir_in(data_dir));
    made.with_context(|| format!("cannot make a directory in {}", data_dir.display()))
}

struct Demo {
    simulator: Simulator,
    running: Running,
    broker: Arc<dyn Broker>,
    number: String,
}

impl Demo {
    async fn start(args: &args::Demo, directory: &Path, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let wanted = if args.say.is_empty() { args.listen } else { any_port };
        let simulator = match simulator_at(wanted).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => simulator_at(any_port).await,
            started => started,
        };
        let simulator = simulator.with_context(|| format!("cannot serve the phone page on {wanted}"))?;
        let account = SimulatorConfig::demo().twilio;
        let number =
            account.numbers.first().map(|number| number.number.clone()).context("the simulator has no number")?;

        let webhooks = TcpListener::bind(any_port).await.context("cannot listen for webhooks")?;
        let public_url = format!("http://{}", webhooks.local_addr()?);
        simulator.set_webhook(&number, &format!("{public_url}/webhooks/demo/messages"));

        let provider = TwilioSettings {
            account_sid: account.account_sid,
            auth_tokens: vec![account.auth_token.into()],
            base_url: simulator.url().to_owned(),
            api_key: None,
            messaging_service_sid: None,
        };
        let mut config = Config::embedded(directory.to_owned(), vec![integration(provider)?]);
        config.ingress.public_urls = vec![public_url];
        config.shutdown_grace = GRACE;
        let ports = ports::open(&config, Clock::system())?;
        let broker = Arc::clone(&ports.broker);
        let running = roles::start(&config, &Role::ALL, Some(webhooks), ports, shutdown);
        Ok(Self { simulator, running, broker, number })
    }

    /// Texts each of `texts` and prints both sides.
    async fn say(&self, texts: &[String]) -> anyhow::Result<()> {
        let phone = self.simulator.phone();
        for text in texts {
            let seen = phone.replies(CUSTOMER).len();
            print(&spoken("you", text));
            let answer = phone.text(CUSTOMER, &self.number, text).await?;
            if answer.status != 204 {
                bail!("the webhook answered {}: {}", answer.status, answer.body);
            }
            tokio::time::timeout(TURN_TIMEOUT, self.all_quiet()).await.context("the turn did not end in time")??;
            let replies = phone.replies(CUSTOMER);
            if replies.len() == seen {
                bail!("no reply came to {text:?}");
            }
            for reply in replies.iter().skip(seen) {
                print(&spoken("switchboard", &reply.body));
            }
        }
        Ok(())
    }

    /// Returns once every queue is empty: all turns are over and all their parts are sent.
    async fn all_quiet(&self) -> anyhow::Result<()> {
        loop {
            let depths = self.broker.depths().await?;
            if depths.inbound + depths.outbound == 0 {
                return Ok(());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Shows the phone's address, sends what is typed, and prints the whole conversation, until a signal or the end of
    /// the terminal's input.
    async fn serve(&self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stdin());
        print(&format!("Switchboard is running. Your phone: {}", self.simulator.url()));
        print(if is_terminal { "Text there, or type here; Ctrl-C ends it." } else { "Ctrl-C ends it." });
        self.converse(is_terminal.then(typed_lines), shutdown).await
    }

    async fn converse(&self, mut typed: Option<mpsc::Receiver<String>>, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut events = self.simulator.phone().subscribe();
        let typed_here = typed.is_some();
        loop {
            let line = async {
                match &mut typed {
                    Some(typed) => typed.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.started() => return Ok(()),
                line = line => match line {
                    Some(line) => drop(self.simulator.phone().text(CUSTOMER, &self.number, &line).await?),
                    None => return Ok(()),
                },
                event = events.recv() => match event {
                    Ok(Event::Message { message }) => show(&message, typed_here),
                    Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return Ok(()),
                },
            }
        }
    }
}

async fn simulator_at(listen: SocketAddr) -> std::io::Result<Simulator> {
    Simulator::start(SimulatorConfig { listen, ..SimulatorConfig::demo() }).await
}

fn integration(provider: TwilioSettings) -> anyhow::Result<Integration> {
    Ok(Integration {
        id: IntegrationId::parse("demo")?,
        numbers: Vec::new(),
        provider: ProviderSettings::Twilio(provider),
        assistant: AssistantSettings::Scripted(ScriptedSettings { file: None::<PathBuf> }),
        // Simulated segments cost nothing, so the send rate need not be limited.
        options: Options { rate_per_second: 1000.0, ..Options::default() },
    })
}

/// Lines typed in the terminal, without empty ones.
fn typed_lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    // A thread of its own, because reading a terminal blocks until Enter; the process does not wait for it.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let text = line.trim();
            if !text.is_empty() && sender.blocking_send(text.to_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

fn show(message: &Message, typed_here: bool) {
    match message.direction {
        // Text that was typed in this terminal is already on the screen.
        Direction::Inbound if typed_here && message.from == CUSTOMER => {}
        Direction::Inbound => print(&spoken("you", &message.body)),
        Direction::Outbound => print(&spoken("switchboard", &message.body)),
    }
}

/// `text` behind the name of who said it, further lines below the first.
fn spoken(who: &str, text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    format!("{who:<13}{}", lines.join(&format!("\n{:13}", "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_demo_ends_with_the_terminals_input() {
        let directory = tempfile::tempdir().unwrap();
        let shutdown = Shutdown::new(GRACE);
        let args = args::Demo { say: vec![String::new()], ..args::Demo::default() };
        let demo = Demo::start(&args, directory.path(), &shutdown).await.unwrap();
        let (sender, typed) = mpsc::channel(1);
        sender.send("hello".to_owned()).await.unwrap();
        drop(sender);
        tokio::time::timeout(TURN_TIMEOUT, demo.converse(Some(typed), &shutdown)).await.expect("it ends").unwrap();
        assert_eq!(demo.simulator.phone().conversation(CUSTOMER, &demo.number)[0].body, "hello");
    }
}
