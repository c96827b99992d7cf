//! The send ledger: what was done about each part. It is written before every call, so that a crash leaves a question
//! to ask rather than a text to send twice.

use std::sync::Arc;

use message::clock::Timestamp;
use message::shutdown::Shutdown;
use message::{ConversationKey, MessageId};
use serde::{Deserialize, Serialize};
use store::send_proof;
use store::{CommitOutcome, Expect, Interrupted, Key, LEDGERS_REMEMBER, Record, RetryingStore, Store, Write};

use crate::parked::{Hold, Parked};

/// How many names of accepted texts are kept for a conversation.
const KNOWN: usize = 64;

/// What was done about a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum State {
    /// Nothing, or nothing that had an effect.
    #[serde(skip)]
    Untouched,
    /// A call began; unless the ledger says more, its outcome is unknown.
    Sending(Mark),
    /// The provider took it.
    Accepted {
        /// The provider's name for it.
        provider_id: String,
        /// When.
        at: Timestamp,
    },
}

/// A call that began. No two calls have the same mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// When the first call began whose text may still appear at the provider.
    pub(crate) first_attempt_at: Timestamp,
    /// When this one began.
    pub(crate) started_at: Timestamp,
    /// How often the part had been replayed by then.
    #[serde(default)]
    pub(crate) times_replayed: usize,
}

/// What the ledger holds about a part.
#[derive(Debug)]
pub(crate) struct Entry {
    /// What was done.
    pub(crate) state: State,
    /// The provider's names of other texts of the conversation.
    pub(crate) known: Vec<String>,
    /// The conversation's parts that wait at the broker.
    pub(crate) parked: Parked,
    record: Option<Record>,
    known_record: Option<Record>,
    parked_record: Option<Record>,
}

impl Entry {
    /// When the first call began whose text may still appear at the provider; `None` when there is none.
    pub(crate) fn began_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Sending(mark) => Some(mark.first_attempt_at),
            State::Untouched | State::Accepted { .. } => None,
        }
    }
}

/// The ledger of all parts.
#[derive(Debug)]
pub(crate) struct Ledger {
    store: RetryingStore,
}

/// One part's place in the ledger.
#[derive(Debug)]
pub(crate) struct Place {
    id: MessageId,
    part: Key,
    known: Key,
    parked: Key,
    witness: Key,
    earlier_witness: Key,
}

impl Place {
    /// The place of `part` in the conversation named `conversation`.
    pub(crate) fn of(conversation: ConversationKey, part: MessageId) -> Self {
        let scope = conversation.to_hex();
        let key = |name: &str| Key::new(scope.clone(), name);
        Self {
            id: part,
            part: key(&format!("part/{part}")),
            known: key("sent"),
            parked: key("parked"),
            witness: send_proof::key(part),
            earlier_witness: send_proof::earlier_key(conversation, part),
        }
    }
}

impl Ledger {
    /// The ledger in `store`. While the store is unreachable, every method waits, until `shutdown`.
    pub(crate) fn new(store: Arc<dyn Store>, shutdown: Shutdown) -> Self {
        Self { store: RetryingStore::new(store, shutdown) }
    }

    /// What was done about a part.
    pub(crate) async fn read(&self, place: &Place) -> Result<Entry, Interrupted> {
        let keys = [place.part.clone(), place.known.clone(), place.parked.clone()];
        let [record, known_record, parked_record] = self.store.get(keys).await?;
        Ok(Entry {
            state: record.as_ref().map_or(State::Untouched, |record| decode(&record.value)),
            known: known_record.as_ref().and_then(|k| serde_json::from_slice(&k.value).ok()).unwrap_or_default(),
            parked: parked_record.as_ref().and_then(|p| serde_json::from_slice(&p.value).ok()).unwrap_or_default(),
            record,
            known_record,
            parked_record,
        })
    }

    /// The provider's name for a part whose receipt came, whatever the part's own record says.
    pub(crate) async fn witness(&self, place: &Place) -> Result<Option<String>, Interrupted> {
        for key in [&place.witness, &place.earlier_witness] {
            let [record] = self.store.get([key.clone()]).await?;
            if let Some(name) = record.as_ref().and_then(send_proof::read) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Records that the text which the provider calls `name` is this part; `false` if it is recorded as another part.
    pub(crate) async fn claim(&self, place: &Place, name: &str) -> Result<bool, Interrupted> {
        let write = Write::put(claim_key(name), Expect::Absent, place.id.to_string(), LEDGERS_REMEMBER);
        match self.store.commit(&[write]).await? {
            CommitOutcome::Applied => Ok(true),
            CommitOutcome::Conflict | CommitOutcome::Unsure => self.is_free(place, name).await,
        }
    }

    /// Whether the text which the provider calls `name` may be this part: it is not recorded as another.
    pub(crate) async fn is_free(&self, place: &Place, name: &str) -> Result<bool, Interrupted> {
        let [holder] = self.store.get([claim_key(name)]).await?;
        Ok(holder.is_none_or(|holder| *holder.value == *place.id.to_string().as_bytes()))
    }

    /// Records that a call begins; `false` if another process wrote since `entry` was read.
    pub(crate) async fn begin(&self, place: &Place, entry: &Entry, mark: Mark) -> Result<bool, Interrupted> {
        let write = Write::put(
            place.part.clone(),
            Expect::unchanged(entry.record.as_ref()),
            encode(&State::Sending(mark)),
            LEDGERS_REMEMBER,
        );
        match self.store.commit(&[write]).await? {
            CommitOutcome::Applied => Ok(true),
            // A commit without an answer may have been made, and its repetition then conflicts with itself.
            CommitOutcome::Conflict | CommitOutcome::Unsure => {
                Ok(self.read(place).await?.state == State::Sending(mark))
            }
        }
    }

    /// Records that the provider accepted the part. That is a fact, whatever other processes do, so the part's own
    /// record is overwritten unconditionally; the records that the conversation's parts share change only from the
    /// state that was read.
    pub(crate) async fn accept(
        &self,
        place: &Place,
        entry: &Entry,
        provider_id: &str,
        at: Timestamp,
    ) -> Result<(), Interrupted> {
        let accepted = State::Accepted { provider_id: provider_id.to_owned(), at };
        let mut writes = acceptance(place, entry, provider_id, &accepted);
        while self.store.commit(&writes).await? != CommitOutcome::Applied {
            let entry = self.read(place).await?;
            if entry.state == accepted {
                return Ok(());
            }
            writes = acceptance(place, &entry, provider_id, &accepted);
        }
        Ok(())
    }

    /// Records that a part waits at the broker, and later parts of its conversation behind it; returns whether that is
    /// new.
    pub(crate) async fn park(&self, place: &Place, hold: Hold, now: Timestamp) -> Result<bool, Interrupted> {
        loop {
            let Entry { mut parked, parked_record, .. } = self.read(place).await?;
            let is_new = parked.park(place.id, hold, now);
            if self.put_parked(place, parked_record.as_ref(), &parked).await? {
                return Ok(is_new);
            }
        }
    }

    /// Records that a part waits no longer.
    pub(crate) async fn leave(&self, place: &Place) -> Result<(), Interrupted> {
        loop {
            let Entry { mut parked, parked_record, .. } = self.read(place).await?;
            if !parked.leave(place.id) || self.put_parked(place, parked_record.as_ref(), &parked).await? {
                return Ok(());
            }
        }
    }

    /// Writes the parked parts; `false` if another process changed the `record` they were read from.
    async fn put_parked(&self, place: &Place, record: Option<&Record>, parked: &Parked) -> Result<bool, Interrupted> {
        let write = put_parked(place, Expect::unchanged(record), parked);
        Ok(self.store.commit(&[write]).await? == CommitOutcome::Applied)
    }

    /// Takes our own mark back, after a call that certainly had no effect. Another holder's mark stays.
    pub(crate) async fn clear(&self, place: &Place, mark: Mark) -> Result<(), Interrupted> {
        let entry = self.read(place).await?;
        if entry.state != State::Sending(mark) {
            return Ok(());
        }
        let write = Write::delete(place.part.clone(), Expect::unchanged(entry.record.as_ref()));
        self.store.commit(&[write]).await.map(drop)
    }
}

/// The key under which is recorded which part a text of the provider is.
fn claim_key(name: &str) -> Key {
    Key::new(format!("sent/{name}"), "part")
}

/// The writes that record a part, read as `entry`, as `accepted` under the name `provider_id`.
fn acceptance(place: &Place, entry: &Entry, provider_id: &str, accepted: &State) -> Vec<Write> {
    let mut known = entry.known.clone();
    known.push(provider_id.to_owned());
    known.drain(..known.len().saturating_sub(KNOWN));
    // A list of strings: serialising cannot fail.
    let known = serde_json::to_vec(&known).unwrap_or_default();
    let mut writes = vec![
        Write::put(place.part.clone(), Expect::Anything, encode(accepted), LEDGERS_REMEMBER),
        Write::put(place.known.clone(), Expect::unchanged(entry.known_record.as_ref()), known, LEDGERS_REMEMBER),
    ];
    let mut parked = entry.parked.clone();
    if parked.leave(place.id) {
        writes.push(put_parked(place, Expect::unchanged(entry.parked_record.as_ref()), &parked));
    }
    writes
}

fn put_parked(place: &Place, expect: Expect, parked: &Parked) -> Write {
    // Ids and times: serialising cannot fail.
    let value = serde_json::to_vec(parked).unwrap_or_default();
    Write::put(place.parked.clone(), expect, value, LEDGERS_REMEMBER)
}

fn encode(state: &State) -> Vec<u8> {
    // Times and strings: serialising cannot fail.
    serde_json::to_vec(state).unwrap_or_default()
}

/// An unreadable record still means that a call began.
fn decode(value: &[u8]) -> State {
    let epoch = Timestamp::UNIX_EPOCH;
    let began = Mark { first_attempt_at: epoch, started_at: epoch, times_replayed: 0 };
    serde_json::from_slice(value).unwrap_or(State::Sending(began))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::parked::Cause;

    /// A record as an earlier release wrote it.
    macro_rules! record {
        ($name:literal) => {
            include_bytes!(concat!("../../tests/fixtures/records/v1/", $name, ".json")).as_slice()
        };
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn g3_records_of_earlier_releases_are_read() {
        let (first_attempt_at, started_at) = (at("2026-11-22T09:29:00Z"), at("2026-11-22T09:30:00.5Z"));
        let sending = State::Sending(Mark { first_attempt_at, started_at, times_replayed: 0 });
        assert_eq!(decode(record!("send_sending")), sending);
        let provider_id = "SM00000000000000000000000000000001".to_owned();
        let accepted = State::Accepted { provider_id, at: started_at };
        assert_eq!(decode(record!("send_accepted")), accepted);
        for state in [sending, accepted] {
            assert_eq!(decode(&encode(&state)), state);
        }
        assert_eq!(serde_json::from_slice::<Vec<String>>(record!("sent")).unwrap(), ["SM1", "SM2"]);
    }

    #[test]
    fn g4_parked_parts_of_earlier_releases_keep_their_places() {
        let part = |digit| MessageId::parse(&format!("0191f3a0-0000-5000-8000-00000000000{digit}")).unwrap();
        let now = at("2026-11-22T09:39:00Z");
        let parked: Parked = serde_json::from_slice(record!("parked")).unwrap();
        let waits_s = [1, 2, 3].map(|digit| parked.hold_of(part(digit), now).map(|hold| hold.delay.as_secs()));
        assert_eq!(waits_s, [Some(60), Some(60), Some(61)]);
        let parked: Parked = serde_json::from_slice(record!("parked_with_times")).unwrap();
        let retry = Hold { delay: Duration::from_secs(60), cause: Cause::Retry };
        assert_eq!(parked.hold_of(part(1), now), Some(retry), "the cause of before");
        assert_eq!(serde_json::from_slice::<Parked>(&serde_json::to_vec(&parked).unwrap()).unwrap(), parked);
    }
}
