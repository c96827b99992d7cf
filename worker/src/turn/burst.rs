//! A burst: texts that arrived close together and are answered as one. Each keeps a ledger entry of its own, because
//! after a crash they may be handed out again one by one, or together with later texts.

use common::broker::{Decision, Destination, Outgoing, Settlement, Stage};
use common::message::{Body, Envelope, Inbound, MessageId, MessageText};
use common::store::{Expect, Key, Record, Write};

use super::ledger::Entry;

/// Where the entries of the texts that joined `envelope` are kept, in order.
pub(super) fn keys(envelope: &Envelope) -> Vec<Key> {
    joined(envelope).map(|id| Entry::key_of(envelope, id)).collect()
}

fn joined(envelope: &Envelope) -> impl Iterator<Item = MessageId> {
    let Body::Inbound(inbound) = &envelope.body else { return [].iter().map(id_of) };
    inbound.joined.iter().map(id_of)
}

fn id_of(joined: &common::message::Joined) -> MessageId {
    joined.id
}

/// Leaves out of `envelope`'s burst what was answered before with another text; `records` are those of [`keys`].
/// Returns the records of what is left.
pub(super) fn leave_out_answered(envelope: &mut Envelope, records: Vec<Option<Record>>) -> Vec<Option<Record>> {
    let head = envelope.id;
    let Body::Inbound(inbound) = &mut envelope.body else { return Vec::new() };
    let was_elsewhere =
        |record: &Option<Record>| record.as_ref().is_some_and(|record| !Entry::read(record).is_with(head));
    let all = std::mem::take(&mut inbound.joined);
    let (kept, left): (Vec<_>, Vec<_>) =
        all.into_iter().zip(records).filter(|(_, record)| !was_elsewhere(record)).unzip();
    inbound.joined = kept;
    left
}

/// Takes the first of `envelope`'s burst off, with everything that was answered with it, and returns it; `envelope` is
/// then what nobody has answered yet. `None` if that is nothing. `records` are those of the texts that joined.
pub(super) fn take_first(envelope: &mut Envelope, records: &[Option<Record>]) -> Option<Envelope> {
    let Body::Inbound(first) = &envelope.body else { return None };
    let (with_first, fresh): (Vec<_>, Vec<_>) =
        first.joined.iter().cloned().zip(records).partition(|(_, record)| record.is_some());
    let mut fresh = fresh.into_iter().map(|(joined, _)| joined);
    let head = fresh.next()?;
    let mut taken = envelope.clone();
    if let Body::Inbound(inbound) = &mut taken.body {
        inbound.joined = with_first.into_iter().map(|(joined, _)| joined).collect();
    }
    *envelope = envelope.causing(head.id, Body::Inbound(Inbound { joined: fresh.collect(), ..head.inbound }));
    Some(taken)
}

/// The writes that say of every text that joined `envelope` that it was answered with it.
pub(super) fn writes(envelope: &Envelope, records: &[Option<Record>]) -> Vec<Write> {
    let entry = Entry::with(envelope.id);
    let write = |(key, record): (Key, &Option<Record>)| entry.put(key, Expect::unchanged(record.as_ref()));
    keys(envelope).into_iter().zip(records).map(write).collect()
}

/// What the customer said in all: the texts, a line each, and the media.
pub(super) fn said(inbound: &Inbound) -> (MessageText, Vec<common::message::Media>) {
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
