//! `make chaos`: runs the whole fault suite and prints its table on standard output. The exit code is 1 if a rule was
//! violated.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use futures_util::{StreamExt as _, stream};
use tests::chaos::{self, Backend, Scenario, Size};

/// Breaks Switchboard in every way it knows, and counts what became of each text.
#[derive(Debug, Parser)]
struct Args {
    /// Where queues and records are; both if not given
    #[arg(long)]
    backend: Option<On>,
    /// What is broken when follows from it; one of the clock's if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Texts on each backend
    #[arg(long, default_value_t = 20_000)]
    texts: u64,
    /// Deaths of our processes on each backend, SIGTERM not counted
    #[arg(long, default_value_t = 240)]
    kills: u32,
    /// Texts a second in each scenario
    #[arg(long, default_value_t = 40.0)]
    rate: f64,
    /// How many scenarios run at a time
    #[arg(long, default_value_t = 2)]
    at_once: usize,
    /// Only this scenario, with its share of the texts; can be given several times
    #[arg(long)]
    scenario: Vec<String>,
    /// Also writes the table here, as Markdown
    #[arg(long)]
    report: Option<std::path::PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    Embedded,
    Servers,
}

#[tokio::main]
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is the result")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| message::clock::Clock::system().now().as_second().unsigned_abs());
    let backends = match args.backend {
        None => vec![Backend::Servers, Backend::Embedded],
        Some(On::Embedded) => vec![Backend::Embedded],
        Some(On::Servers) => vec![Backend::Servers],
    };
    let mut runs = Vec::new();
    for backend in backends {
        let size = Size { backend, seed, texts: args.texts, kills: args.kills, rate_per_second: args.rate };
        let wanted = |one: &Scenario| args.scenario.is_empty() || args.scenario.iter().any(|name| name == one.name);
        runs.extend(
            Scenario::all().into_iter().filter(|one| one.is_for(backend) && wanted(one)).map(|one| (one, size)),
        );
    }
    let mut skipped = Vec::new();
    runs.retain(|(scenario, _)| match scenario.skipped() {
        None => true,
        Some(why) => {
            skipped.push(format!("SKIPPED: {} ({why})\n", scenario.name));
            false
        }
    });
    if runs.is_empty() && skipped.is_empty() {
        eprintln!("chaos: no such scenario");
        return ExitCode::from(2);
    }
    let running = stream::iter(runs.into_iter().enumerate()).map(|(place, (scenario, size))| async move {
        let row = chaos::run(&scenario, size).await;
        let verdict = if row.violations.is_empty() { "kept" } else { "VIOLATED" };
        eprintln!("{} on {}: {verdict}, {:.0} s", row.scenario, row.backend, row.took.as_secs_f64());
        (place, row)
    });
    let mut rows: Vec<_> = running.buffer_unordered(args.at_once.max(1)).collect().await;
    rows.sort_by_key(|(place, _)| *place);
    let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
    let table = format!("Seed {seed}.\n\n{}{}", chaos::markdown(&rows), skipped.concat());
    println!("{table}");
    if let Some(path) = args.report
        && let Err(error) = std::fs::write(&path, &table)
    {
        eprintln!("chaos: {} cannot be written: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if rows.iter().all(|row| row.violations.is_empty()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
