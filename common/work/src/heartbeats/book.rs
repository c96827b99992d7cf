//! The store's records of a stage's heartbeats: the round, and for each partition the last round in which something
//! came out of it. They hold rounds and no instants, because the clocks of two hosts may differ by minutes.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::Stage;
use message::failure::Failure;
use serde::{Deserialize, Serialize};
use store::{Commit, Expect, Key, Record, Store, Write};

/// The records of all stages share this scope, so that one commit can change all records of a stage.
const SCOPE: &str = "heartbeat";
/// How long the records are kept, 30 days: longer than an installation is switched off, so the round count continues.
const TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The last rounds in which something came out of a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The round of the newest heartbeat that came.
    pub(super) heartbeat: u64,
    /// The round in which anything came, heartbeat or message.
    pub(super) anything: u64,
}

impl Seen {
    fn or_later(self, other: Self) -> Self {
        Self { heartbeat: self.heartbeat.max(other.heartbeat), anything: self.anything.max(other.anything) }
    }
}

#[derive(Serialize, Deserialize)]
struct Round {
    round: u64,
}

/// The records of one stage, as they were read.
#[derive(Debug)]
pub(super) struct Book {
    /// The round that has begun; 0 before the first.
    pub(super) round: u64,
    /// What was seen of each partition.
    pub(super) seen: Vec<Seen>,
    keys: Vec<Key>,
    records: Vec<Option<Record>>,
}

impl Book {
    pub(super) async fn read(store: &dyn Store, stage: Stage, partitions: u16) -> Result<Self, Failure> {
        let stage = stage.as_str();
        let of_partition = |partition| Key::new(SCOPE, format!("{stage}/{partition}"));
        let keys: Vec<Key> = std::iter::once(Key::new(SCOPE, stage)).chain((0..partitions).map(of_partition)).collect();
        let records = store.get(&keys).await?;
        let parsed = |record: &Option<Record>| serde_json::from_slice(&record.as_ref()?.value).ok();
        let round = records.first().and_then(parsed).map_or(0, |Round { round }| round);
        let seen = records.iter().skip(1).map(|record| {
            let value = record.as_ref().and_then(|record| serde_json::from_slice(&record.value).ok());
            // A partition that is new has missed nothing yet.
            value.unwrap_or(Seen { heartbeat: round, anything: round })
        });
        Ok(Self { round, seen: seen.collect(), keys, records })
    }

    /// Begins the next round; `false` if another process was first. Partitions without a record get one, so that a
    /// partition from which nothing ever comes is noticed too.
    pub(super) async fn begin_round(&mut self, store: &dyn Store) -> Result<bool, Failure> {
        // If only the record of the round was lost, the count continues after every round that was seen.
        let latest = self.seen.iter().map(|seen| seen.heartbeat.max(seen.anything)).max().unwrap_or_default();
        let round = self.round.max(latest) + 1;
        let mut writes = vec![self.write(0, &Round { round })];
        let missing = (1..self.records.len()).filter(|at| self.records.get(*at).is_some_and(Option::is_none));
        writes.extend(missing.map(|at| self.write(at, &Seen { heartbeat: round - 1, anything: round - 1 })));
        let is_ours = store.commit(&writes).await? == Commit::Applied;
        self.round = round;
        Ok(is_ours)
    }

    /// Writes what `came` out of each partition since the last time. `false` if another process changed one of the
    /// records first.
    pub(super) async fn note(&mut self, store: &dyn Store, came: &BTreeMap<u16, Option<u64>>) -> Result<bool, Failure> {
        let mut writes = Vec::new();
        for (partition, heartbeat) in came {
            let at = usize::from(*partition);
            let Some(seen) = self.seen.get_mut(at) else { continue };
            let now = seen.or_later(Seen { heartbeat: heartbeat.unwrap_or_default(), anything: self.round });
            if now != std::mem::replace(seen, now) {
                writes.push((at + 1, now));
            }
        }
        let writes: Vec<Write> = writes.iter().map(|(at, seen)| self.write(*at, seen)).collect();
        Ok(writes.is_empty() || store.commit(&writes).await? == Commit::Applied)
    }

    fn write(&self, at: usize, value: &impl Serialize) -> Write {
        let key = self.keys.get(at).cloned().unwrap_or_else(|| Key::new(SCOPE, ""));
        let expect = Expect::unchanged(self.records.get(at).and_then(Option::as_ref));
        // Numbers only: serialising cannot fail.
        Write::put(key, expect, serde_json::to_vec(value).unwrap_or_default(), TTL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_every_release_wrote_them() {
        let round: Round =
            serde_json::from_slice(include_bytes!("../../../../tests/fixtures/heartbeats/v1/round.json")).unwrap();
        assert_eq!(round.round, 42);
        let seen: Seen =
            serde_json::from_slice(include_bytes!("../../../../tests/fixtures/heartbeats/v1/seen.json")).unwrap();
        assert_eq!(seen, Seen { heartbeat: 41, anything: 42 });
    }
}
