//! The cost of a text as the number of sessions in Redis grows from a thousand to a million. A thousand customers text
//! on both sides, so that only the number of stored sessions differs.

use std::ops::Range;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use message::clock::Clock;
use serde_json::json;
use store::redis::RedisStore;
use store::{Commit, Expect, Key, Store as _, Write};
use tests::servers::{RabbitMqServer, RedisServer};

use super::super::Plan;
use super::side::{Side, Wanted, compare};
use crate::backlog::Mix;
use crate::sheet::Sheet;

/// The number of customers who text.
const TEXTING: u64 = 1000;
/// The growing numbers of stored sessions.
const LEVELS: [u64; 3] = [10_000, 100_000, MANY];
const MANY: u64 = 1_000_000;
/// The number of sessions that are written at a time.
const AT_ONCE: usize = 512;
/// The lifetime of a session: the default of `session_timeout`.
const TTL: Duration = Duration::from_secs(3600);

/// Measures the sessions.
pub(super) async fn measure(
    plan: &Plan,
    rabbitmq: &RabbitMqServer,
    redis: &RedisServer,
    few: &mut Side,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let mix = |stored: u64| Mix { customers: TEXTING, apart: stored / TEXTING, integrations: 1 };
    few.backlog.clear().await?;
    few.backlog.mix = mix(TEXTING);
    write(redis, &few.prefix, 0..TEXTING).await?;
    let mut many = Side::worker(plan, rabbitmq.url(), redis.url(), mix(TEXTING)).await?;
    let mut stored = 0;
    for level in LEVELS {
        write(redis, &many.prefix, stored..level).await?;
        many.backlog.clear().await?;
        (many.backlog.mix, stored) = (mix(level), level);
        // The levels on the way are measured once.
        let rounds = if level == MANY { plan.fewer_rounds() } else { 1 };
        let names = ["1000 sessions", &format!("{level} sessions")];
        compare(sheet, rounds, names, [&mut *few, &mut many], Wanted::default()).await?;
    }
    few.backlog.clear().await?;
    few.backlog.mix = Mix::STRANGERS;
    Ok(())
}

/// Writes the sessions of the customers `numbers`, through the port, for the installation `prefix`.
async fn write(redis: &RedisServer, prefix: &str, numbers: Range<u64>) -> anyhow::Result<()> {
    // Writing the sessions is not measured, so it need not sync.
    redis.command(&["CONFIG", "SET", "appendfsync", "no"])?;
    let store = RedisStore::new(&redis.url().into(), prefix)?;
    let writing = stream::iter(numbers).map(|number| {
        let (store, session) = (&store, session(number));
        async move {
            let written = store.commit(&[session?]).await?;
            anyhow::ensure!(written == Commit::Applied, "a session was not written");
            anyhow::Ok(())
        }
    });
    writing.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    redis.command(&["CONFIG", "SET", "appendfsync", "always"])?;
    Ok(())
}

/// A session's record, as a worker writes it after a turn.
fn session(number: u64) -> anyhow::Result<Write> {
    let (integration, conversation) = Mix::STRANGERS.conversation(number)?;
    let name = format!("0191f3a0-0000-5000-8000-{number:012x}");
    let value = json!({
        "schema": 1,
        "sms_session": name,
        "last_activity": Clock::system().now(),
        "list": null,
        "assistant": null,
    });
    let key = Key::new(conversation.key(&integration).to_hex(), "session");
    Ok(Write::put(key, Expect::Anything, serde_json::to_vec(&value)?, TTL))
}
