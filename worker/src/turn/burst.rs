//! A burst: texts that arrived close together and are answered as one. Each keeps a ledger entry of its own, because
//! after a crash they may be redelivered one by one, or together with later texts.

use broker::{Destination, Outgoing, Stage};
use message::{Body, Envelope, Inbound, Joined, MessageId, MessageText};
use store::{Expect, Key, Record, Write};
use work::{Decision, Settlement};

use super::ledger::Entry;

/// The keys of the entries of the texts that joined `envelope`, in order.
pub(super) fn keys(envelope: &Envelope) -> Vec<Key> {
    joined(envelope).map(|id| Entry::key_of(envelope, id)).collect()
}

fn joined(envelope: &Envelope) -> impl Iterator<Item = MessageId> {
    let Body::Inbound(inbound) = &envelope.body else { return [].iter().map(id_of) };
    inbound.joined.iter().map(id_of)
}

fn id_of(joined: &Joined) -> MessageId {
    joined.id
}

/// A burst, once it is known which of its texts were taken before.
pub(super) struct Divided {
    /// The first text with those that are, or were, taken as one turn with it.
    pub(super) turn: Envelope,
    /// The records of the texts that joined the turn.
    pub(super) records: Vec<Option<Record>>,
    /// The other texts: each was taken together with others, or comes after a turn that is done.
    pub(super) rest: Option<Envelope>,
}

/// Divides `envelope`'s burst, whose first text `is_done` or not; `records` are those of [`keys`].
pub(super) fn divide(envelope: &Envelope, records: Vec<Option<Record>>, is_done: bool) -> Divided {
    let mut turn = envelope.clone();
    let Body::Inbound(first) = &mut turn.body else { return Divided { turn, records, rest: None } };
    let is_of_turn = |(_, record): &(Joined, Option<Record>)| {
        record.as_ref().map_or(!is_done, |record| Entry::read(record).is_with(envelope.id))
    };
    let all = std::mem::take(&mut first.joined);
    let (of_turn, others): (Vec<_>, Vec<_>) = all.into_iter().zip(records).partition(is_of_turn);
    let (joined, records) = of_turn.into_iter().unzip();
    first.joined = joined;
    let rest = as_one(envelope, others.into_iter().map(|(joined, _)| joined));
    Divided { turn, records, rest }
}

/// Texts of `envelope`'s burst as a burst of their own.
fn as_one(envelope: &Envelope, mut texts: impl Iterator<Item = Joined>) -> Option<Envelope> {
    let Joined { id, attempts, replays, inbound } = texts.next()?;
    let body = Body::Inbound(Inbound { joined: texts.collect(), ..inbound });
    Some(Envelope { attempts, replays, ..envelope.causing(id, body) })
}

/// The writes that say of every text that joined `envelope` that it was answered with it.
pub(super) fn writes(envelope: &Envelope, records: &[Option<Record>]) -> Vec<Write> {
    let entry = Entry::with(envelope.id);
    let write = |(key, record): (Key, &Option<Record>)| entry.put(key, Expect::unchanged(record.as_ref()));
    keys(envelope).into_iter().zip(records).map(write).collect()
}

/// What the customer said in all: the texts, a line each, and the media.
pub(super) fn said(inbound: &Inbound) -> (MessageText, Vec<message::Media>) {
    let all = || std::iter::once(inbound).chain(inbound.joined.iter().map(|joined| &joined.inbound));
    let texts: Vec<&str> = all().map(|one| one.text.expose()).filter(|text| !text.is_empty()).collect();
    (texts.join("\n").into(), all().flat_map(|one| one.media.clone()).collect())
}

/// A decision about `first` as effects of the decision about the texts after it.
pub(super) fn effects(decision: Decision, first: &Envelope) -> Vec<Outgoing> {
    let mut effects = decision.effects;
    if let Settlement::DeadLetter(reason) = decision.settlement {
        effects.push(Outgoing::new(Destination::Dead(Stage::Inbound, reason), first));
    }
    effects
}
