//! A part of a segment in memory, read record by record.

use broker::{Destination, Outgoing};
use message::Envelope;

use super::backlog::{Backlog, Stretch};
use super::position::Position;
use super::record::{self, Read, Record};

/// The bytes that were read of a segment, and how far they were gone through.
#[derive(Debug, Default)]
pub(super) struct Page {
    stretch: Stretch,
    bytes: Vec<u8>,
    at: u64,
    damage: Damage,
}

/// Places that could not be read.
#[derive(Debug, Default)]
pub(super) struct Damage {
    pub(super) stretches: Vec<Stretch>,
    /// How many records were there, at least.
    pub(super) records: u64,
}

/// A record and where it lies.
pub(super) struct Piece {
    pub(super) stretch: Stretch,
    pub(super) record: Record,
}

impl Page {
    /// A page of `bytes`, which are the first of `stretch`.
    pub(super) fn new(stretch: Stretch, bytes: Vec<u8>) -> Self {
        let to = stretch.from + bytes.len() as u64;
        Self { stretch: Stretch { to, ..stretch }, bytes, at: stretch.from, damage: Damage::default() }
    }

    /// The position of its end.
    pub(super) fn end(&self) -> Position {
        Position { segment: self.stretch.segment, offset: self.stretch.to }
    }

    /// Whether all of it was gone through.
    pub(super) fn is_over(&self) -> bool {
        self.at >= self.stretch.to
    }

    /// The next record that is not done with; `None` when there is no more.
    pub(super) fn peek(&mut self, backlog: &Backlog) -> Option<Piece> {
        loop {
            self.at = backlog.next_in(self.stretch.segment, self.at);
            let start = usize::try_from(self.at.saturating_sub(self.stretch.from)).ok()?;
            match record::read(self.bytes.get(start..)?)? {
                Read::Whole(record, length) => {
                    let stretch = Stretch { from: self.at, to: self.at + length as u64, ..self.stretch };
                    return Some(Piece { stretch, record });
                }
                Read::Damaged { bytes, records } => {
                    let to = self.at + bytes as u64;
                    self.damage.stretches.push(Stretch { from: self.at, to, ..self.stretch });
                    self.damage.records += records;
                    self.at = to;
                }
            }
        }
    }

    /// Goes on behind `piece`, which was the next record.
    pub(super) fn go_past(&mut self, piece: &Piece) {
        self.at = piece.stretch.to;
    }

    /// Returns the damage that was found since the last call.
    pub(super) fn take_damage(&mut self) -> Damage {
        std::mem::take(&mut self.damage)
    }
}

impl Piece {
    /// The message as it was when it was appended.
    pub(super) fn outgoing(&self) -> Outgoing {
        let (destination, payload) = (Destination::Work(self.record.stage), self.record.payload.clone());
        match Envelope::decode(&payload) {
            Ok(envelope) => Outgoing {
                destination,
                id: Some(envelope.id),
                key: Some(envelope.key()),
                trace: envelope.trace,
                payload,
            },
            // Spooled by a newer release: the worker that gets it from the queue reports it and makes it a dead letter.
            Err(_) => Outgoing { destination, id: None, key: None, trace: String::new(), payload },
        }
    }
}
