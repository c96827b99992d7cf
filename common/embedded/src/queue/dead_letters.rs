//! Dead letters in the embedded database: rows that are read page by page, and moved or deleted in one transaction.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use broker::dead_letters::{DeadLetter, DeadLetters, LetterTag, Walk};
use broker::{Outgoing, Stage};
use message::clock::Timestamp;
use message::failure::Failure;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{EmbeddedBroker, refuse_if_full, touched};
use crate::queue::write::{self, Taken};

/// At most this many dead letters are read at a time.
const FETCHED_AT_ONCE: u32 = 64;

#[async_trait]
impl DeadLetters for EmbeddedBroker {
    async fn open(&self, stage: Option<Stage>) -> Result<Box<dyn Walk>, Failure> {
        let last = self.database.run(last_number).await?;
        Ok(Box::new(EmbeddedWalk { broker: self.clone(), stage, read_up_to: 0, last, ready: VecDeque::new() }))
    }
}

struct EmbeddedWalk {
    broker: EmbeddedBroker,
    stage: Option<Stage>,
    read_up_to: i64,
    /// The last row that was there when the walk began.
    last: i64,
    ready: VecDeque<DeadLetter>,
}

#[async_trait]
impl Walk for EmbeddedWalk {
    async fn next(&mut self) -> Result<Option<DeadLetter>, Failure> {
        if self.ready.is_empty() && self.read_up_to < self.last {
            let (stage, after, last) = (self.stage, self.read_up_to, self.last);
            let rows = self.broker.database.run(move |connection| fetch(connection, stage, after, last)).await?;
            self.read_up_to = rows.last().map_or(self.last, |(number, _)| *number);
            self.ready.extend(rows.into_iter().map(|(_, letter)| letter));
        }
        Ok(self.ready.pop_front())
    }

    async fn replay(&mut self, letters: &[(LetterTag, Outgoing)]) -> Result<u64, Failure> {
        let (letters, row_limit, now_ms) = (letters.to_vec(), self.broker.row_limit, self.broker.now_ms());
        let messages: Vec<Outgoing> = letters.iter().map(|(_, message)| message.clone()).collect();
        let (stages, touched) = (Arc::clone(&self.broker.stages), touched(&messages));
        let work = move |connection: &Connection| {
            if let Some(stage) = write::stage_without_room(connection, &messages, row_limit)? {
                return Ok((Taken::Full(stage), 0));
            }
            let mut replayed = 0;
            for (tag, message) in &letters {
                if remove(connection, *tag)? {
                    write::insert(connection, std::slice::from_ref(message), now_ms)?;
                    replayed += 1;
                }
            }
            Ok((Taken::All, replayed))
        };
        let (taken, replayed) = self.broker.database.run_then(work, move |_| stages.wake(&touched)).await?;
        refuse_if_full(taken).map(|()| replayed)
    }

    async fn discard(&mut self, tag: LetterTag) -> Result<bool, Failure> {
        self.broker.database.run(move |connection| remove(connection, tag)).await
    }

    async fn close(self: Box<Self>) {}
}

fn last_number(connection: &Connection) -> rusqlite::Result<i64> {
    const SELECT: &str = "SELECT number FROM dead_letters ORDER BY number DESC LIMIT 1";
    Ok(connection.prepare_cached(SELECT)?.query_row([], |row| row.get(0)).optional()?.unwrap_or_default())
}

fn fetch(
    connection: &Connection,
    stage: Option<Stage>,
    after: i64,
    last: i64,
) -> rusqlite::Result<Vec<(i64, DeadLetter)>> {
    const SELECT: &str = "SELECT number, stage, trace, payload, reason, detail, died_at_ms FROM dead_letters
        WHERE number > ?1 AND number <= ?2 AND (?3 IS NULL OR stage = ?3) ORDER BY number LIMIT ?4";
    let bounds = params![after, last, stage.map(Stage::as_str), FETCHED_AT_ONCE];
    connection.prepare_cached(SELECT)?.query_map(bounds, letter)?.collect()
}

fn letter(row: &rusqlite::Row<'_>) -> rusqlite::Result<(i64, DeadLetter)> {
    let number: i64 = row.get("number")?;
    let stage: String = row.get("stage")?;
    let letter = DeadLetter {
        tag: LetterTag(u64::try_from(number).unwrap_or_default()),
        stage: Stage::ALL.into_iter().find(|one| one.as_str() == stage).unwrap_or(Stage::Inbound),
        reason: row.get("reason")?,
        detail: row.get("detail")?,
        died_at: Timestamp::from_millisecond(row.get("died_at_ms")?).ok(),
        headers: vec![("traceparent".to_owned(), row.get("trace")?)],
        payload: row.get::<_, Vec<u8>>("payload")?.into(),
    };
    Ok((number, letter))
}

fn remove(connection: &Connection, tag: LetterTag) -> rusqlite::Result<bool> {
    const DELETE: &str = "DELETE FROM dead_letters WHERE number = ?1";
    let number = i64::try_from(tag.0).unwrap_or_default();
    Ok(connection.prepare_cached(DELETE)?.execute([number])? > 0)
}
