//! Reads a stage's queue for its consumer, fairly: of one conversation only so much is held at a time, and what is beyond
//! that is passed over and caught up with later. Each conversation stays in order.
//!
//! Every message is looked at once in passing and read once, from an index, so a look costs the same whatever the length
//! of the queue. A conversation that was passed over is remembered by where it was left.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use rusqlite::{Connection, params};

use super::super::Stage;
use super::queue::{Conversation, Queued, next_due_ms, release_due};
use crate::message::ConversationKey;

/// At most this many messages are read at a time, so memory stays flat however long the queue is.
const READ_AT_ONCE: usize = 64;
/// At most this many of them are of conversations that were passed over, so that those behind come in any case.
const CAUGHT_UP_AT_ONCE: usize = READ_AT_ONCE / 2;
/// At most this many messages are looked at in passing at a time.
const PASSED_AT_ONCE: usize = 1024;
/// No more messages of one conversation are held: as many as a burst joins, and some more.
pub(super) const HELD_PER_CONVERSATION: usize = 32;

/// How far a consumer has read.
#[derive(Debug, Clone, Default)]
pub(super) struct Position {
    /// All messages up to this number were read, or belong to a conversation that lags.
    read_up_to: i64,
    /// Conversations that were passed over, each with the number up to which it was read. Each was held in full when it
    /// was passed over, and those are caught up with in turns, so there are no more than can be held in full.
    lagging: VecDeque<(Conversation, i64)>,
}

impl Position {
    /// Whether any conversation was passed over.
    pub(super) fn lags(&self) -> bool {
        !self.lagging.is_empty()
    }
}

/// What a look into a stage's queue found.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The next messages, those of each conversation oldest first.
    pub(super) messages: Vec<Queued>,
    /// How far that is.
    pub(super) position: Position,
    /// Whether nothing was left to look at.
    pub(super) is_at_end: bool,
    /// When the next parked message is due.
    pub(super) next_due_ms: Option<i64>,
}

/// Moves parked messages that are due to the end of the queue, then reads the next ones after `position` and notes that
/// they are held. So many of each conversation are `held` already.
pub(super) fn fetch(
    connection: &Connection,
    stage: Stage,
    position: Position,
    held: HashMap<Conversation, usize>,
    now_ms: i64,
) -> rusqlite::Result<Fetched> {
    if next_due_ms(connection, stage)?.is_some_and(|due_ms| due_ms <= now_ms) {
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

/// Forgets that anything of `stage` was held: it was given back in good order.
pub(super) fn give_back(connection: &Connection, stage: Stage) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM held WHERE stage = ?1")?.execute([stage.as_str()]).map(drop)
}

/// Returns how often the message was noted before.
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
    /// Reads on in conversations that were passed over and have room again.
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

    /// The next messages of `conversation` among those that were passed over.
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

    /// Reads the messages that nobody has looked at yet, passes over conversations that are held in full, and says
    /// whether there were no more.
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
