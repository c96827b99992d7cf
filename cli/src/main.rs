//! The one binary. Each subcommand starts a role, or all of them; without one it is `demo`.

mod args;
mod dead_letters;
mod demo;
mod healthcheck;
mod roles;
mod signals;
mod simulate;

use std::process::ExitCode;

use args::{Args, Command, ConfigFile};
use clap::Parser as _;
use config::{self, Config};
use operations::logs::init_logs;
use roles::Role;

/// Exit code for wrong usage or a wrong configuration.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    #[cfg(feature = "failpoints")]
    match message::failpoint::Failpoints::parse(&args.failpoints) {
        Some(orders) => message::failpoint::arm(orders),
        None => return fail("--failpoints makes no sense", USAGE),
    }
    let command = args.command.unwrap_or_else(|| Command::Demo(args::Demo::default()));
    let log = args.log.as_deref().filter(|text| !text.is_empty());
    init_logs(log.unwrap_or(command.default_log()), args.log_format.into());
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::warn!("another TLS provider is installed already");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}"), 1),
    };
    let code = runtime.block_on(run(command));
    // A call that still blocks (a DNS look-up, say) must not hold up the exit.
    runtime.shutdown_background();
    code
}

async fn run(command: Command) -> ExitCode {
    match command {
        Command::Demo(demo) => finish(demo::run(demo).await),
        Command::Up(file) => start(&file, &Role::ALL).await,
        Command::Ingress(file) => start(&file, &[Role::Ingress]).await,
        Command::Worker(file) => start(&file, &[Role::Worker]).await,
        Command::Sender(file) => start(&file, &[Role::Sender]).await,
        Command::Simulator(simulator) => finish(simulate::run(simulator).await),
        Command::DeadLetters(command) => dead_letters::run(command).await,
        Command::CheckConfig(file) => check_config(&file),
        Command::Healthcheck(healthcheck) => finish(healthcheck::run(&healthcheck.url).await),
    }
}

async fn start(file: &ConfigFile, roles: &[Role]) -> ExitCode {
    let config = Config::load(file.config.as_deref(), &config::environment(), ports::CLIENTS);
    let config = if roles.contains(&Role::Ingress) { config.and_then(Config::for_ingress) } else { config };
    match config {
        Ok(config) => {
            for remark in &config.remarks {
                tracing::warn!(key = remark.key, %remark, "suspicious in the configuration");
            }
            finish(roles::run(config, roles).await)
        }
        Err(problems) => fail(&problems.to_string(), USAGE),
    }
}

fn check_config(file: &ConfigFile) -> ExitCode {
    let checked = Config::load(file.config.as_deref(), &config::environment(), ports::CLIENTS);
    print(&config::report(&checked));
    if checked.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(USAGE) }
}

fn finish(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}"), 1),
    }
}

#[allow(clippy::print_stderr, reason = "the last word of a command that failed is for the person who ran it")]
fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("switchboard: {message}");
    ExitCode::from(code)
}

/// Prints a result to stdout. A closed pipe is no error: the reader has stopped reading.
fn print(text: &str) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    if writeln!(stdout, "{}", text.trim_end()).is_ok() {
        drop(stdout.flush());
    }
}
