//! `make bench`: measures Switchboard's real processes against floors that do the same work bare, in one run, and
//! writes a report. The load and the floors are separate processes: this program again, with a hidden subcommand.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is the result, and who waits sees progress")]

mod assistant;
mod backlog;
mod child;
mod cost;
mod figure;
mod floor;
mod latency;
mod load;
mod machine;
mod meter;
mod pace;
mod queues;
mod records;
mod report;
mod role;
mod scenario;
mod sheet;
mod sink;
mod spending;
mod tally;
mod traffic;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::scenario::{Plan, Releases, Scenario};
use crate::sheet::Sheet;

/// Measures Switchboard on this machine; every figure stands beside its floor of the same run.
#[derive(Debug, Parser)]
struct Args {
    /// Which scenarios; all if none is given
    scenarios: Vec<Scenario>,
    /// How often everything is measured, floors and ours by turns
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long each single measurement takes
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Which releases of RabbitMQ to measure on
    #[arg(long, value_enum, default_value = "both")]
    rabbitmq: Releases,
    /// Writes bench.md and bench.json here
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
    /// When it is, for the report
    #[arg(long, default_value = "")]
    date: String,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What the child processes do.
#[derive(Debug, Subcommand)]
#[command(hide = true)]
enum Part {
    /// The load generator
    #[command(hide = true)]
    Load { order: String },
    /// The load generator of the whole pipeline
    #[command(hide = true)]
    LoadPipeline { order: String },
    /// The assistant's stand-in
    #[command(hide = true)]
    Assistant,
    /// The HTTP floor
    #[command(hide = true)]
    FloorHttp,
    /// The broker floor
    #[command(hide = true)]
    FloorBroker { order: String },
    /// The pipeline's floor
    #[command(hide = true)]
    FloorPipeline { order: String },
    /// The floor of the embedded backend
    #[command(hide = true)]
    FloorSqlite { order: String },
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.part {
        Some(Part::Load { order }) => child::answer(order, load::run).await,
        Some(Part::LoadPipeline { order }) => child::answer(order, load::round_trip::run).await,
        Some(Part::Assistant) => assistant::serve().await,
        Some(Part::FloorHttp) => floor::http::serve().await,
        Some(Part::FloorBroker { order }) => child::answer(order, floor::broker::run).await,
        Some(Part::FloorPipeline { order }) => child::answer(order, floor::pipeline::run).await,
        Some(Part::FloorSqlite { order }) => child::answer(order, floor::sqlite::run).await,
        None => measure(&args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(args.rounds > 0 && args.seconds > 0.0, "--rounds and --seconds must be more than nothing");
    let releases = args.rabbitmq.installed();
    anyhow::ensure!(!releases.is_empty(), "no RabbitMQ to measure on: `scripts/newer-rabbitmq install` makes one");
    let wanted = if args.scenarios.is_empty() { Scenario::ALL.to_vec() } else { args.scenarios.clone() };
    let (mut sheets, mut versions, mut outcome) = (Vec::new(), Vec::new(), Ok(()));
    for (at, release) in releases.into_iter().enumerate() {
        let plan = Plan::new(args.rounds, args.seconds, release).await?;
        // A scenario without RabbitMQ is measured once.
        for scenario in wanted.iter().filter(|scenario| at == 0 || scenario.uses_rabbitmq()) {
            eprintln!("bench: {}, RabbitMQ {}", scenario.name(), plan.rabbitmq);
            match scenario.run(&plan).await {
                Ok(sheet) => {
                    let rabbitmq = scenario.uses_rabbitmq().then(|| plan.rabbitmq.clone());
                    sheets.push(Sheet { rabbitmq, ..sheet });
                }
                // After a failure the other scenarios are still measured and reported.
                Err(error) => {
                    let error = error.context(scenario.name());
                    eprintln!("bench: {error:#}");
                    outcome = outcome.and(Err(error));
                }
            }
        }
        versions.push(plan.rabbitmq);
    }
    let conditions = machine::Conditions::now(versions, args.rounds, args.seconds, &args.date)?;
    let report = report::Report { conditions, sheets };
    report.write(&args.out)?;
    println!("{}", report.markdown());
    outcome
}
