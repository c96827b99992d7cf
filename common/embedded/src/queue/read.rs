//! Reads a stage's queue for its consumer, fairly: a limited number of messages of one conversation is held at a time,
//! and the messages beyond that are skipped and read later. Each conversation stays in order.
//!
//! Every message is scanned once and read once, from an index, so a look costs the same whatever the length of the
//! queue. For each skipped conversation the position up to which it was read is kept.

use std::collections::{HashMap, HashSet, VecDeque};

use broker::Stage;
use bytes::Bytes;
use message::ConversationKey;
use rusqlite::{Connection, params};

use crate::queue::write::{Conversation, Queued, follow_clock_back, next_due_ms, release_due};

/// At most this many messages are read at a time, so memory stays flat however long the queue is.
const READ_AT_ONCE: usize = 64;
/// At most this many of them are of skipped conversations, so that the messages behind come in any case.
const CAUGHT_UP_AT_ONCE: usize = READ_AT_ONCE / 2;
/// At most this many messages are scanned at a time.
const PASSED_AT_ONCE: usize = 1024;
/// At most this many messages of one conversation are held: as many as a burst joins, and some more.
pub(super) const HELD_PER_CONVERSATION: usize = 32;

/// How far a consumer has read.
#[derive(Debug, Clone, Default)]
pub(super) struct Position {
    /// All messages up to this number were read, or belong to a conversation that lags.
    read_up_to: i64,
    /// Skipped conversations, each with the number up to which it was read. Each was at its limit when it was skipped,
    /// and they are read on in turn, so there are no more than can be at their limit.
    lagging: VecDeque<(Conversation, i64)>,
}

impl Position {
    /// Whether any conversation was skipped and is not read to the end.
    pub(super) fn lags(&self) -> bool {
        !self.lagging.is_empty()
    }
}

/// What a look into a stage's queue found.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The next messages, those of each conversation oldest first.
    pub(super) messages: Vec<Queued>,
    /// The position after these messages.
    pub(super) position: Position,
    /// Whether the end of the queue was reached.
    pub(super) is_at_end: bool,
    /// When the next parked message is due.
    pub(super) next_due_ms: Option<i64>,
}

/// Moves parked messages that are due to the end of the queue, then reads the next ones after `position` and notes that
/// they are held. `held` counts the messages of each conversation that the consumer holds already.
pub(super) fn fetch(
    connection: &Connection,
    stage: Stage,
    position: Position,
    held: HashMap<Conversation, usize>,
    now_ms: i64,
) -> rusqlite::Result<Fetched> {
    if next_due_ms(connection, stage)?.is_some() {
        follow_clock_back(connection, now_ms)?;
        release_due(connection, stage, now_ms)?;
    }
    let mut look = Look { connection, stage, position, held, messages: Vec::new() };
    look.catch_up()?;
    let is_at_end = look.go_on()?;
    let Look { position, mut messages, .. } = look;
    for message in &mut messages {
        message.times = note_held(connection, stage, message.number)?;
    }
    Ok(Fetched { messages, position, is_at_end, next_due_ms: next_due_ms(connection, stage)? })
}

/// Forgets which messages of `stage` were held: they were given back in good order.
pub(super) fn give_back(connection: &Connection, stage: Stage) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM held WHERE stage = ?1")?.execute([stage.as_str()]).map(drop)
}

/// Notes that the message is held. Returns how often it was noted before.
fn note_held(connection: &Connection, stage: Stage, number: i64) -> rusqlite::Result<u32> {
    const NOTE: &str = "INSERT INTO held (number, stage, times) VALUES (?1, ?2, 0)
        ON CONFLICT DO UPDATE SET times = times + 1 RETURNING times";
    connection.prepare_cached(NOTE)?.query_row(params![number, stage.as_str()], |row| row.get(0))
}

struct Look<'a> {
    connection: &'a Connection,
    stage: Stage,
    position: Position,
    held: HashMap<Conversation, usize>,
    messages: Vec<Queued>,
}

impl Look<'_> {
    /// Reads on in skipped conversations that have room again.
    fn catch_up(&mut self) -> rusqlite::Result<()> {
        for _ in 0..self.position.lagging.len() {
            let room_here = CAUGHT_UP_AT_ONCE.saturating_sub(self.messages.len());
            if room_here == 0 {
                break;
            }
            let Some((conversation, left_at)) = self.position.lagging.pop_front() else { break };
            let room = HELD_PER_CONVERSATION.saturating_sub(self.held_of(conversation)).min(room_here);
            let found = self.read_on(conversation, left_at, room)?;
            let left_at = found.last().map_or(left_at, |last| last.number);
            if found.len() == room {
                self.position.lagging.push_back((conversation, left_at));
            }
            *self.held.entry(conversation).or_default() += found.len();
            self.messages.extend(found);
        }
        Ok(())
    }

    /// The next skipped messages of `conversation`, `most` at most.
    fn read_on(&self, conversation: Conversation, left_at: i64, most: usize) -> rusqlite::Result<Vec<Queued>> {
        const SELECT: &str = "SELECT number, payload FROM messages
            WHERE stage = ?1 AND key IS ?2 AND number > ?3 AND number <= ?4 ORDER BY number LIMIT ?5";
        if most == 0 {
            return Ok(Vec::new());
        }
        let key = conversation.map(|key| key.to_hex());
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let queued = |row: &rusqlite::Row<'_>| {
            Ok(Queued { number: row.get(0)?, conversation, payload: payload(row, 1)?, times: 0 })
        };
        self.connection
            .prepare_cached(SELECT)?
            .query_map(params![self.stage.as_str(), key, left_at, self.position.read_up_to, most], queued)?
            .collect()
    }

    /// Reads the messages not scanned yet, and skips conversations that are at their limit. Returns whether the end of
    /// the queue was reached.
    fn go_on(&mut self) -> rusqlite::Result<bool> {
        const SELECT: &str = "SELECT number, key, payload FROM messages INDEXED BY messages_by_stage
            WHERE stage = ?1 AND number > ?2 ORDER BY number";
        let mut lagging: HashSet<_> = self.position.lagging.iter().map(|(conversation, _)| *conversation).collect();
        let mut statement = self.connection.prepare_cached(SELECT)?;
        let mut rows = statement.query(params![self.stage.as_str(), self.position.read_up_to])?;
        for _ in 0..PASSED_AT_ONCE {
            if self.messages.len() >= READ_AT_ONCE {
                return Ok(false);
            }
            let Some(row) = rows.next()? else { return Ok(true) };
            let (number, key): (i64, Option<String>) = (row.get(0)?, row.get(1)?);
            let conversation = key.as_deref().and_then(ConversationKey::from_hex);
            if !lagging.contains(&conversation) {
                if self.held_of(conversation) < HELD_PER_CONVERSATION {
                    *self.held.entry(conversation).or_default() += 1;
                    self.messages.push(Queued { number, conversation, payload: payload(row, 2)?, times: 0 });
                } else {
                    lagging.insert(conversation);
                    self.position.lagging.push_back((conversation, self.position.read_up_to));
                }
            }
            self.position.read_up_to = number;
        }
        Ok(false)
    }

    fn held_of(&self, conversation: Conversation) -> usize {
        self.held.get(&conversation).copied().unwrap_or_default()
    }
}

fn payload(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    row.get::<_, Vec<u8>>(column).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use broker::{Destination, Outgoing};
    use proptest::prelude::*;

    use super::*;
    use crate::file::migrated;
    use crate::queue::write::{Taken, add, settle};

    const STAGE: Stage = Stage::Inbound;

    fn conversation(number: u16) -> Conversation {
        // Number 0 stands for unreadable payloads.
        (number > 0).then(|| ConversationKey::from_hex(&format!("{number:032x}")).unwrap())
    }

    fn publish(connection: &Connection, conversations: impl IntoIterator<Item = u16>) {
        let message = |number| Outgoing {
            destination: Destination::Work(STAGE),
            id: None,
            key: conversation(number),
            trace: String::new(),
            payload: Bytes::from_static(b"{}"),
        };
        let messages: Vec<_> = conversations.into_iter().map(message).collect();
        assert_eq!(add(connection, &messages, u64::MAX, 0).unwrap(), Taken::All);
    }

    /// A consumer of the queue that holds what it read.
    struct Consumer<'a> {
        connection: &'a Connection,
        position: Position,
        held: Vec<(Conversation, i64)>,
    }

    impl Consumer<'_> {
        fn counts(&self) -> HashMap<Conversation, usize> {
            let mut counts = HashMap::new();
            for (conversation, _) in &self.held {
                *counts.entry(*conversation).or_default() += 1;
            }
            counts
        }

        /// Reads on. Returns the messages, and whether the end of the queue was reached.
        fn fetch(&mut self) -> (Vec<Queued>, bool) {
            let fetched = fetch(self.connection, STAGE, self.position.clone(), self.counts(), 0).unwrap();
            self.position = fetched.position;
            self.held.extend(fetched.messages.iter().map(|message| (message.conversation, message.number)));
            assert!(fetched.messages.len() <= READ_AT_ONCE);
            assert!(self.counts().values().all(|count| *count <= HELD_PER_CONVERSATION));
            (fetched.messages, fetched.is_at_end)
        }

        fn settle(&mut self, at: usize) {
            let (_, number) = self.held.remove(at);
            settle(self.connection, number, &[], u64::MAX, 0).unwrap();
        }
    }

    fn consumer(connection: &Connection) -> Consumer<'_> {
        Consumer { connection, position: Position::default(), held: Vec::new() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_message_is_read_once_and_each_conversation_in_order(
            published in prop::collection::vec(prop_oneof![3 => Just(0_u16), 3 => Just(1_u16), 1 => 2_u16..6], 0..600),
            choices in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..80), 1..40),
        ) {
            let connection = migrated();
            let mut consumer = consumer(&connection);
            let (mut last, mut seen) = (HashMap::new(), 0);
            let mut steps = choices.iter().cycle();
            for (round, part) in published.chunks(97).chain(std::iter::repeat_n(&[][..], 2000)).enumerate() {
                publish(&connection, part.iter().copied());
                for message in consumer.fetch().0 {
                    prop_assert_eq!(message.times, 0);
                    prop_assert!(last.insert(message.conversation, message.number) < Some(message.number));
                    seen += 1;
                }
                let (which, count) = steps.next().unwrap();
                for _ in 0..(*count).min(consumer.held.len()) {
                    consumer.settle(which.index(consumer.held.len()));
                }
                if round * 97 >= published.len() && seen == published.len() {
                    break;
                }
                if consumer.held.len() > 3 * READ_AT_ONCE {
                    consumer.settle(0);
                }
            }
            // Whatever the choices were, settling everything brings the rest.
            while seen < published.len() {
                while !consumer.held.is_empty() {
                    consumer.settle(0);
                }
                let came = consumer.fetch().0;
                for message in &came {
                    prop_assert!(last.insert(message.conversation, message.number) < Some(message.number));
                }
                seen += came.len();
            }
            prop_assert_eq!(seen, published.len());
        }
    }

    #[test]
    fn a_conversation_with_thousands_of_texts_does_not_keep_the_others_waiting() {
        let connection = migrated();
        publish(&connection, std::iter::repeat_n(1, 5000).chain([2, 3]));
        let mut consumer = consumer(&connection);
        let mut looks = 0;
        let mut came = HashSet::new();
        while !came.contains(&conversation(3)) {
            looks += 1;
            came.extend(consumer.fetch().0.into_iter().map(|message| message.conversation));
        }
        assert!(looks <= 5000 / PASSED_AT_ONCE + 1, "{looks} looks");
        assert_eq!(consumer.held.len(), HELD_PER_CONVERSATION + 2, "and none of them takes all the room");
    }

    #[test]
    fn conversations_that_lag_leave_half_of_each_look_to_the_others() {
        let connection = migrated();
        // Four conversations that are always behind, and many that have one text each.
        publish(&connection, (0..4000).map(|number| 1 + number % 4).chain(10..400));
        let mut consumer = consumer(&connection);
        let mut others = 0;
        while !consumer.position.lags() {
            consumer.fetch();
        }
        for _ in 0..20 {
            let (came, _) = consumer.fetch();
            others += came.iter().filter(|message| message.conversation >= conversation(10)).count();
            while !consumer.held.is_empty() {
                consumer.settle(0);
            }
            assert!(consumer.position.lagging.len() <= 4);
        }
        assert_eq!(others, 390);
    }

    #[test]
    fn what_was_held_when_a_process_died_is_known_and_nothing_else() {
        let connection = migrated();
        publish(&connection, 1..=200);
        let mut died = consumer(&connection);
        died.fetch();
        died.settle(0);
        let mut next = consumer(&connection);
        let times: Vec<_> = (0..3).flat_map(|_| next.fetch().0).map(|message| message.times).collect();
        assert_eq!(times.iter().filter(|times| **times == 1).count(), READ_AT_ONCE - 1);
        assert!(times.iter().all(|times| *times <= 1));
        give_back(&connection, STAGE).unwrap();
        assert!(consumer(&connection).fetch().0.iter().all(|message| message.times == 0), "given back in good order");
    }
}
