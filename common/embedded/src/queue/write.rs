//! The SQL of the queues. A message's number is its place: higher numbers come later.

use std::time::Duration;

use broker::{Depths, Destination, Outgoing, Reason, Stage};
use bytes::Bytes;
use message::ConversationKey;
use rusqlite::{Connection, OptionalExtension as _, params};

/// At most this many parked messages move to their queue's end at a time.
const RELEASED_AT_ONCE: u32 = 256;

/// The conversation within which a message keeps its order; unreadable payloads have an order of their own.
pub(super) type Conversation = Option<ConversationKey>;
/// A clock that goes back by more than this, in ms, was set back; less is two jobs that overtook each other.
const SET_BACK_MS: i64 = 1_000;

/// A message as it lies in the queue.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) number: i64,
    pub(super) conversation: Conversation,
    pub(super) payload: Bytes,
    /// How often it was read before and not settled.
    pub(super) times: u32,
}

/// Whether the queues took the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// All of them are in the file.
    All,
    /// This stage has no room: none of them was taken.
    Full(Stage),
}

/// Adds `messages` in order, unless a stage would then hold more than `row_limit` waiting and parked ones.
pub(super) fn add(
    connection: &Connection,
    messages: &[Outgoing],
    row_limit: u64,
    now_ms: i64,
) -> rusqlite::Result<Taken> {
    if let Some(stage) = stage_without_room(connection, messages, row_limit)? {
        return Ok(Taken::Full(stage));
    }
    insert(connection, messages, now_ms)?;
    Ok(Taken::All)
}

/// Takes a message off its queue and adds its effects. If the message was settled before, its effects are there already
/// and are not added again.
pub(super) fn settle(
    connection: &Connection,
    number: i64,
    effects: &[Outgoing],
    row_limit: u64,
    now_ms: i64,
) -> rusqlite::Result<Taken> {
    if let Some(stage) = stage_without_room(connection, effects, row_limit)? {
        return Ok(Taken::Full(stage));
    }
    let taken_off = connection.prepare_cached("DELETE FROM messages WHERE number = ?1")?.execute([number])?;
    if taken_off > 0 {
        insert(connection, effects, now_ms)?;
    }
    Ok(Taken::All)
}

/// How many messages the queues of each kind hold, from the counters.
pub(super) fn depths(connection: &Connection) -> rusqlite::Result<Depths> {
    let all =
        |place| -> rusqlite::Result<u64> { Stage::ALL.iter().map(|stage| depth(connection, *stage, place)).sum() };
    Ok(Depths {
        inbound: depth(connection, Stage::Inbound, "messages")?,
        outbound: depth(connection, Stage::Outbound, "messages")?,
        receipts: depth(connection, Stage::Receipts, "messages")?,
        delayed: all("delayed")?,
        dead: all("dead_letters")?,
    })
}

pub(super) fn insert(connection: &Connection, messages: &[Outgoing], now_ms: i64) -> rusqlite::Result<()> {
    for message in messages {
        match &message.destination {
            Destination::Work(stage) => add_work(connection, *stage, message)?,
            Destination::Delayed(stage, delay) => {
                add_delayed(connection, *stage, message, *delay, now_ms)?;
            }
            Destination::Dead(stage, reason) => add_dead(connection, *stage, message, reason, now_ms)?,
        }
    }
    Ok(())
}

fn depth(connection: &Connection, stage: Stage, place: &str) -> rusqlite::Result<u64> {
    const SELECT: &str = "SELECT depth FROM depths WHERE stage = ?1 AND place = ?2";
    let depth: i64 = connection.prepare_cached(SELECT)?.query_row(params![stage.as_str(), place], |row| row.get(0))?;
    Ok(u64::try_from(depth).unwrap_or_default())
}

/// The first stage without room for `messages`; `None` if all have room. Parked messages and dead letters always have
/// room: refusing them would only keep the message they came from.
pub(super) fn stage_without_room(
    connection: &Connection,
    messages: &[Outgoing],
    row_limit: u64,
) -> rusqlite::Result<Option<Stage>> {
    for stage in Stage::ALL {
        let added = messages.iter().filter(|m| m.destination == Destination::Work(stage)).count();
        if added == 0 {
            continue;
        }
        let held = depth(connection, stage, "messages")? + depth(connection, stage, "delayed")?;
        if held.saturating_add(u64::try_from(added).unwrap_or(u64::MAX)) > row_limit {
            return Ok(Some(stage));
        }
    }
    Ok(None)
}

fn add_work(connection: &Connection, stage: Stage, message: &Outgoing) -> rusqlite::Result<()> {
    const INSERT: &str = "INSERT INTO messages (stage, id, key, trace, payload) VALUES (?1, ?2, ?3, ?4, ?5)";
    let (id, key) = names(message);
    let row = params![stage.as_str(), id, key, message.trace, &message.payload[..]];
    connection.prepare_cached(INSERT)?.execute(row).map(drop)
}

fn add_delayed(
    connection: &Connection,
    stage: Stage,
    message: &Outgoing,
    delay: Duration,
    now_ms: i64,
) -> rusqlite::Result<()> {
    const INSERT: &str = "INSERT INTO delayed (stage, id, key, trace, payload, due_at_ms, parked_at_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    follow_clock_back(connection, now_ms)?;
    let (id, key) = names(message);
    let due_at_ms = now_ms.saturating_add(whole_ms(delay));
    let row = params![stage.as_str(), id, key, message.trace, &message.payload[..], due_at_ms, now_ms];
    connection.prepare_cached(INSERT)?.execute(row).map(drop)
}

fn add_dead(
    connection: &Connection,
    stage: Stage,
    message: &Outgoing,
    reason: &Reason,
    now_ms: i64,
) -> rusqlite::Result<()> {
    const INSERT: &str = "INSERT INTO dead_letters (stage, id, key, trace, payload, reason, detail, died_at_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let (id, key) = names(message);
    let (payload, name, detail) = (&message.payload[..], reason.name.as_str(), &reason.detail);
    let row = params![stage.as_str(), id, key, message.trace, payload, name, detail, now_ms];
    connection.prepare_cached(INSERT)?.execute(row).map(drop)
}

fn names(message: &Outgoing) -> (Option<String>, Option<String>) {
    (message.id.map(|id| id.to_string()), message.key.map(|key| key.to_hex()))
}

/// When the next parked message of `stage` is due.
pub(super) fn next_due_ms(connection: &Connection, stage: Stage) -> rusqlite::Result<Option<i64>> {
    const SELECT: &str = "SELECT due_at_ms FROM delayed WHERE stage = ?1 ORDER BY due_at_ms LIMIT 1";
    connection.prepare_cached(SELECT)?.query_row([stage.as_str()], |row| row.get(0)).optional()
}

/// Moves all delays along when the clock was set back: it shows less than when the last message was parked. So each
/// message waits for as long as it was told, at most twice, and in the same order.
pub(super) fn follow_clock_back(connection: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    const LAST: &str = "SELECT parked_at_ms FROM delayed ORDER BY number DESC LIMIT 1";
    const MOVE: &str = "UPDATE delayed SET due_at_ms = due_at_ms - ?1, parked_at_ms = parked_at_ms - ?1";
    let last_ms: Option<i64> = connection.prepare_cached(LAST)?.query_row([], |row| row.get(0)).optional()?;
    let set_back_ms = last_ms.map_or(0, |last_ms| last_ms.saturating_sub(now_ms));
    if set_back_ms > SET_BACK_MS {
        connection.prepare_cached(MOVE)?.execute([set_back_ms])?;
    }
    Ok(())
}

/// Moves parked messages that are due to the end of the queue, some at a time.
pub(super) fn release_due(connection: &Connection, stage: Stage, now_ms: i64) -> rusqlite::Result<()> {
    const MOVE: &str = "INSERT INTO messages (stage, id, key, trace, payload)
        SELECT stage, id, key, trace, payload FROM delayed
        WHERE stage = ?1 AND due_at_ms <= ?2 ORDER BY due_at_ms, number LIMIT ?3";
    const REMOVE: &str = "DELETE FROM delayed WHERE number IN
        (SELECT number FROM delayed WHERE stage = ?1 AND due_at_ms <= ?2 ORDER BY due_at_ms, number LIMIT ?3)";
    for statement in [MOVE, REMOVE] {
        connection.prepare_cached(statement)?.execute(params![stage.as_str(), now_ms, RELEASED_AT_ONCE])?;
    }
    Ok(())
}

/// Whole milliseconds, rounded up: at least this long.
fn whole_ms(delay: Duration) -> i64 {
    i64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use broker::ReasonName;
    use proptest::prelude::*;

    use super::super::read::{self, Position};
    use super::*;
    use crate::file::migrated;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Work(Stage),
        Delay(Stage, u8),
        Die(Stage),
        Look(Stage),
        Settle(Stage, u8),
        Pass(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let stage = || prop::sample::select(Stage::ALL.to_vec());
        let step = prop_oneof![
            3 => stage().prop_map(Step::Work),
            2 => (stage(), any::<u8>()).prop_map(|(stage, ms)| Step::Delay(stage, ms)),
            1 => stage().prop_map(Step::Die),
            2 => stage().prop_map(Step::Look),
            3 => (stage(), any::<u8>()).prop_map(|(stage, at)| Step::Settle(stage, at)),
            2 => any::<u8>().prop_map(Step::Pass),
        ];
        prop::collection::vec(step, 1..60)
    }

    /// What should lie where: texts by stage, oldest first.
    #[derive(Default)]
    struct Model {
        waiting: Vec<(Stage, u32)>,
        parked: Vec<(Stage, i64, u32)>,
        dead: u64,
    }

    impl Model {
        fn release(&mut self, stage: Stage, now_ms: i64) {
            let mut due: Vec<_> =
                self.parked.extract_if(.., |(s, due_ms, _)| *s == stage && *due_ms <= now_ms).collect();
            due.sort_by_key(|(_, due_ms, text)| (*due_ms, *text));
            self.waiting.extend(due.into_iter().map(|(stage, _, text)| (stage, text)));
        }

        fn waiting_in(&self, stage: Stage) -> Vec<u32> {
            self.waiting.iter().filter(|(s, _)| *s == stage).map(|(_, text)| *text).collect()
        }

        fn depths(&self) -> Depths {
            let count = |stage| self.waiting_in(stage).len() as u64;
            let [inbound, outbound, receipts] = Stage::ALL.map(count);
            Depths { inbound, outbound, receipts, delayed: self.parked.len() as u64, dead: self.dead }
        }
    }

    fn publish(connection: &Connection, destination: Destination, text: u32, now_ms: i64) {
        let payload = text.to_string().into();
        let message = Outgoing { destination, id: None, key: None, trace: String::new(), payload };
        assert_eq!(add(connection, &[message], u64::MAX, now_ms).unwrap(), Taken::All);
    }

    fn look(connection: &Connection, stage: Stage, now_ms: i64) -> Vec<(i64, u32)> {
        let fetched = read::fetch(connection, stage, Position::default(), HashMap::new(), now_ms).unwrap();
        let text = |queued: &Queued| std::str::from_utf8(&queued.payload).unwrap().parse().unwrap();
        fetched.messages.iter().map(|queued| (queued.number, text(queued))).collect()
    }

    fn texts(found: &[(i64, u32)]) -> Vec<u32> {
        found.iter().map(|(_, text)| *text).collect()
    }

    proptest! {
        #[test]
        fn queues_behave_like_lists(steps in steps()) {
            let connection = migrated();
            let (mut model, mut now_ms) = (Model::default(), 0);
            for (step, text) in steps.into_iter().zip(0..) {
                match step {
                    Step::Work(stage) => {
                        publish(&connection, Destination::Work(stage), text, now_ms);
                        model.waiting.push((stage, text));
                    }
                    Step::Delay(stage, ms) => {
                        let delay = Duration::from_millis(ms.into());
                        publish(&connection, Destination::Delayed(stage, delay), text, now_ms);
                        model.parked.push((stage, now_ms + i64::from(ms), text));
                    }
                    Step::Die(stage) => {
                        publish(&connection, Destination::Dead(stage, Reason::new(ReasonName::Permanent, "x")), text, now_ms);
                        model.dead += 1;
                    }
                    Step::Look(stage) => {
                        model.release(stage, now_ms);
                        prop_assert_eq!(texts(&look(&connection, stage, now_ms)), model.waiting_in(stage));
                    }
                    Step::Settle(stage, at) => {
                        model.release(stage, now_ms);
                        let found = look(&connection, stage, now_ms);
                        if !found.is_empty() {
                            let (number, settled) = found[usize::from(at) % found.len()];
                            settle(&connection, number, &[], u64::MAX, now_ms).unwrap();
                            model.waiting.retain(|(_, text)| *text != settled);
                        }
                    }
                    Step::Pass(ms) => now_ms += i64::from(ms),
                }
                prop_assert_eq!(depths(&connection).unwrap(), model.depths());
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_back_prolongs_no_delay_and_keeps_the_order() {
        let connection = migrated();
        let park = |text, ms, now_ms| {
            publish(&connection, Destination::Delayed(Stage::Outbound, Duration::from_millis(ms)), text, now_ms);
        };
        park(0, 600, 100_000);
        park(1, 11, 100_590);
        let fetched = read::fetch(&connection, Stage::Outbound, Position::default(), HashMap::new(), 50).unwrap();
        assert_eq!(fetched.next_due_ms, Some(60), "the rest stays");
        park(2, 5, 51);
        assert_eq!(texts(&look(&connection, Stage::Outbound, 61)), [2, 0, 1]);
        park(3, 1, 5_062);
        park(4, 1, 10);
        assert_eq!(texts(&look(&connection, Stage::Outbound, 11)), [2, 0, 1, 3, 4], "noticed when the next is parked");
    }

    #[test]
    fn a_long_queue_is_read_in_small_steps_and_released_in_order() {
        let connection = migrated();
        for text in 0..600 {
            publish(&connection, Destination::Delayed(Stage::Outbound, Duration::from_millis(5)), text, 0);
        }
        let (mut seen, mut position) = (Vec::new(), Position::default());
        loop {
            let fetched = read::fetch(&connection, Stage::Outbound, position, HashMap::new(), 5).unwrap();
            if fetched.messages.is_empty() {
                break;
            }
            assert!(fetched.messages.len() <= 64);
            position = fetched.position;
            seen.extend(fetched.messages.iter().map(|m| String::from_utf8(m.payload.to_vec()).unwrap()));
        }
        assert_eq!(seen, (0..600).map(|text| text.to_string()).collect::<Vec<_>>());
    }
}
