//! `switchboard dead-letters`: reads the arguments, calls the broker's dead-letter library and prints the result.

mod args;
mod details;
mod summary;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use broker::dead_letters as library;
use broker::dead_letters::{Filter, Letter, Order, Progress, Survey};
use config::{self, QueueConfig};
use message::clock::Clock;
use message::failure::Failure;
use serde_json::json;

pub(crate) use args::DeadLetters;
use args::{Common, Discard, List, Replay, Show};
use summary::Summary;

use crate::{USAGE, fail, print};

/// How many dead letters `show` prints at most when several match the given id.
const MOST_SHOWN: usize = 100;

/// Runs `command` and returns its exit code.
pub(crate) async fn run(command: DeadLetters) -> ExitCode {
    let environment = config::environment();
    let done = match command {
        DeadLetters::List(list) => self::list(list, &environment).await,
        DeadLetters::Show(show) => self::show(show, &environment).await,
        DeadLetters::Replay(replay) => self::replay(replay, &environment).await,
        DeadLetters::Discard(discard) => self::discard(discard, &environment).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Wrong::Usage(message)) => fail(&message, USAGE),
        Err(Wrong::Failed(message)) => fail(&message, 1),
    }
}

/// Why a command ends without success.
enum Wrong {
    Usage(String),
    Failed(String),
}

impl From<Failure> for Wrong {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.to_string())
    }
}

type Environment = BTreeMap<String, String>;
type Port = Arc<dyn library::DeadLetters>;

fn open(common: &Common, environment: &Environment) -> Result<Port, Wrong> {
    let config = QueueConfig::load(common.file.config.as_deref(), environment, ports::CLIENTS);
    let config = config.map_err(|problems| Wrong::Usage(problems.to_string()))?;
    Ok(ports::dead_letters(&config, Clock::system())?)
}

async fn survey<T>(
    port: &Port,
    filter: &Filter,
    most: usize,
    keep: impl Fn(Letter) -> Option<T>,
) -> Result<Survey<T>, Wrong> {
    let mut walk = port.open(filter.stage).await?;
    let found = library::survey(&mut *walk, filter, Clock::system().now(), most, keep).await?;
    walk.close().await;
    Ok(found)
}

async fn list(list: List, environment: &Environment) -> Result<(), Wrong> {
    let (port, filter) = (open(&list.common, environment)?, Filter::from(list.filter));
    let most = usize::try_from(list.limit).unwrap_or(usize::MAX);
    let found = survey(&port, &filter, most, |letter| Some(Summary::of(&letter))).await?;
    if list.common.json {
        found.first.iter().for_each(|summary| print(&summary.json().to_string()));
    } else {
        print(&summary::table(&found));
    }
    Ok(())
}

async fn show(show: Show, environment: &Environment) -> Result<(), Wrong> {
    let port = open(&show.common, environment)?;
    let filter = Filter { names: vec![show.id], ..Filter::default() };
    let found = survey(&port, &filter, MOST_SHOWN, Some).await?;
    if found.first.is_empty() {
        return Err(Wrong::Failed("there is no such dead letter: see `switchboard dead-letters list`".to_owned()));
    }
    for letter in &found.first {
        let details = details::json(letter, show.reveal);
        print(&if show.common.json { details.to_string() } else { details::text(&details) });
    }
    Ok(())
}

async fn replay(replay: Replay, environment: &Environment) -> Result<(), Wrong> {
    let (port, filter) = (open(&replay.common, environment)?, Filter::from(replay.filter));
    if replay.dry_run {
        return rehearse(&port, &filter, replay.limit, replay.common.json, true).await;
    }
    let by = replay.by.unwrap_or_else(|| operator(environment));
    let order = Order { filter, limit: replay.limit, rate_per_second: replay.rate, by };
    let mut progress = Progress::default();
    let done = library::replay(&*port, &order, &Clock::system(), &mut progress).await;
    let Progress { replayed, unreadable } = progress;
    tracing::info!(
        target: "audit", command = "dead-letters replay", by = order.by, filter = ?order.filter, limit = ?order.limit,
        rate = order.rate_per_second, replayed, unreadable, failure = done.as_ref().err().map(tracing::field::display),
        "dead letters replayed"
    );
    if replay.common.json {
        print(&json!({ "replayed": replayed, "unreadable": unreadable }).to_string());
    } else {
        let passed_over = match unreadable {
            0 => String::new(),
            _ => format!("; {unreadable} that nobody can read stay"),
        };
        print(&format!("{replayed} replayed{passed_over}"));
    }
    done.map_err(|failure| Wrong::Failed(format!("{failure}; the rest is still there, run the command again")))
}

async fn discard(discard: Discard, environment: &Environment) -> Result<(), Wrong> {
    let filter = Filter::from(discard.filter);
    if filter.is_open() && !discard.all {
        return Err(Wrong::Usage("discard needs a filter, or --all".to_owned()));
    }
    if !filter.is_open() && discard.all {
        return Err(Wrong::Usage("--all goes without a filter".to_owned()));
    }
    let port = open(&discard.common, environment)?;
    if discard.dry_run {
        return rehearse(&port, &filter, discard.limit, discard.common.json, false).await;
    }
    let by = discard.by.unwrap_or_else(|| operator(environment));
    let mut discarded = 0;
    let done = library::discard(&*port, &filter, discard.limit, Clock::system().now(), &mut discarded).await;
    tracing::info!(
        target: "audit", command = "dead-letters discard", by, filter = ?filter, limit = ?discard.limit, discarded,
        failure = done.as_ref().err().map(tracing::field::display), "dead letters discarded"
    );
    print(&if discard.common.json {
        json!({ "discarded": discarded }).to_string()
    } else {
        format!("{discarded} discarded")
    });
    Ok(done?)
}

/// Prints how many dead letters a replay (`is_replay`) or a discard would take, and changes nothing.
async fn rehearse(
    port: &Port,
    filter: &Filter,
    limit: Option<u64>,
    is_json: bool,
    is_replay: bool,
) -> Result<(), Wrong> {
    let found = survey(port, filter, 0, |_| None::<()>).await?;
    let able = if is_replay { found.matched() - found.unreadable } else { found.matched() };
    let count = able.min(limit.unwrap_or(u64::MAX));
    let what = if is_replay { "would_replay" } else { "would_discard" };
    print(&if is_json {
        let histogram = summary::histogram_json(&found.histogram);
        json!({ what: count, "matched": found.matched(), "unreadable": found.unreadable, "histogram": histogram })
            .to_string()
    } else {
        let histogram = summary::histogram(&found.histogram);
        format!("{histogram}{} {count} of {}", what.replace('_', " "), found.matched())
    });
    Ok(())
}

/// The caller as `user@host`, with `unknown` for a part that is not known; at most 64 characters.
fn operator(environment: &Environment) -> String {
    let known = |names: &[&str]| names.iter().find_map(|name| environment.get(*name)).cloned();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    let host = host.or_else(|| known(&["HOSTNAME", "COMPUTERNAME"]));
    let unknown = || "unknown".to_owned();
    let user = known(&["USER", "LOGNAME", "USERNAME"]).unwrap_or_else(unknown);
    let whole = format!("{user}@{}", host.unwrap_or_else(unknown));
    whole.chars().filter(|c| !c.is_control()).take(64).collect()
}
