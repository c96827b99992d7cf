//! What `switchboard dead-letters` takes.

use std::time::Duration;

use broker::Stage;
use broker::dead_letters::{ConversationFilter, Filter, InvalidConversationFilter};
use clap::{Subcommand, ValueEnum};
use message::{IntegrationId, InvalidIntegrationId};

use crate::args::ConfigFile;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// Lists them, in the order in which they would be replayed
    List(List),
    /// Shows everything about one but its words and numbers
    Show(Show),
    /// Sends them on their way again, each conversation in its order
    Replay(Replay),
    /// Takes them off for good
    Discard(Discard),
}

/// What `list` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) filter: Filters,
    /// At most so many; all are counted
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub(super) limit: u32,
}

/// What `show` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(super) common: Common,
    /// The message's id or `sha256:…` of one that cannot be read, as `list` prints it, or how it begins
    #[arg(value_parser = name)]
    pub(super) id: String,
    /// Print the customer's number and words too
    #[arg(long)]
    pub(super) reveal: bool,
}

/// What `replay` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) filter: Filters,
    /// At most so many, the oldest first
    #[arg(long, value_name = "COUNT")]
    pub(super) limit: Option<u64>,
    /// How many each second; 0 is as fast as it goes
    #[arg(long, value_name = "PER_SECOND", default_value_t = 10)]
    pub(super) rate: u32,
    /// Only say what would be replayed
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Who asks for it; the user and the machine, unless given
    #[arg(long, value_name = "WHO", env = "SWITCHBOARD_BY", value_parser = who)]
    pub(super) by: Option<String>,
}

/// What `discard` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Discard {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) filter: Filters,
    /// All of them, without any filter
    #[arg(long)]
    pub(super) all: bool,
    /// At most so many
    #[arg(long, value_name = "COUNT")]
    pub(super) limit: Option<u64>,
    /// Only say what would be discarded
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Who asks for it; the user and the machine, unless given
    #[arg(long, value_name = "WHO", env = "SWITCHBOARD_BY", value_parser = who)]
    pub(super) by: Option<String>,
}

/// What all of them take.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// Print one JSON object a line
    #[arg(long)]
    pub(super) json: bool,
}

/// Which dead letters are meant: all conditions hold.
#[derive(Debug, clap::Args)]
pub(crate) struct Filters {
    /// Those that came from this stage
    #[arg(long, value_enum)]
    stage: Option<StageName>,
    /// Those of this integration
    #[arg(long, value_name = "ID", value_parser = integration)]
    integration: Option<IntegrationId>,
    /// Those with this reason, such as `expired`
    #[arg(long, value_name = "NAME")]
    reason: Option<String>,
    /// Those that have been dead for this long or longer, as in `2h` or `30m`
    #[arg(long, value_name = "AGE", value_parser = duration)]
    older_than: Option<Duration>,
    /// Those that have been dead for this long at most
    #[arg(long, value_name = "AGE", value_parser = duration)]
    newer_than: Option<Duration>,
    /// Those of this conversation: the customer's number, masked as in `+1303*****42`, or how its hash begins
    #[arg(long, value_name = "NUMBER|HASH", value_parser = conversation)]
    conversation: Option<ConversationFilter>,
    /// The one with this id (or `sha256:…`), or how it begins; can be given several times
    #[arg(long = "id", value_name = "ID", value_parser = name)]
    ids: Vec<String>,
}

/// A stage by its name.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StageName {
    /// Texts from customers
    Inbound,
    /// Parts of replies
    Outbound,
    /// Delivery receipts
    Receipts,
}

impl From<Filters> for Filter {
    fn from(filters: Filters) -> Self {
        let Filters { stage, integration, reason, older_than, newer_than, conversation, ids } = filters;
        let stage = stage.map(|stage| match stage {
            StageName::Inbound => Stage::Inbound,
            StageName::Outbound => Stage::Outbound,
            StageName::Receipts => Stage::Receipts,
        });
        Self { stage, integration, reason, older_than, newer_than, conversation, names: ids }
    }
}

fn integration(text: &str) -> Result<IntegrationId, InvalidIntegrationId> {
    IntegrationId::parse(text)
}

fn conversation(text: &str) -> Result<ConversationFilter, InvalidConversationFilter> {
    ConversationFilter::parse(text)
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    config::parse_duration(text).ok_or("expected a duration such as `2h`, `30m` or `1h30m`")
}

fn name(text: &str) -> Result<String, &'static str> {
    let text = text.to_ascii_lowercase();
    let digits = text.strip_prefix("sha256:").unwrap_or(&text);
    let is_name = digits.len() >= 4 && digits.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if is_name {
        Ok(text)
    } else {
        Err("expected at least 4 digits of an id or of `sha256:…`, as `list` prints them")
    }
}

/// The name is stored in messages and logs for as long as those are kept, so its length and characters are limited.
fn who(text: &str) -> Result<String, &'static str> {
    let is_short = (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if is_short { Ok(text.to_owned()) } else { Err("expected 1 to 64 characters") }
}
