//! The one thread that changes the spool's files. Requests that come while it syncs share the next sync.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::sync::Arc;

use message::failpoint::{Step, reach_doing};
use message::failure::Failure;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::backlog::{Backlog, Stretch};
use super::position::{self, Position};
use super::segment::{self, scan};
use super::slot::{Slot, sync_dir, writable};

/// A segment of this many bytes, 4 MiB, or of a quarter of the spool's limit, grows no more.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// How many bytes share a sync at most, 1 MiB.
const BATCH_BYTES: usize = 1024 * 1024;

/// A command to the writer's thread.
#[derive(Debug)]
pub(super) enum Command {
    /// Add this record, and say when it is on disk.
    Append(Append),
    /// These stretches, with messages of these stripes, are published: forget them, and say when that is done.
    Drained(Vec<Stretch>, Vec<u16>, oneshot::Sender<()>),
    /// This segment cannot be read: lay it aside, and say when that is done.
    LayAside(u64, oneshot::Sender<()>),
    /// Take over what dead processes left, and check whether a failing disk works again.
    Tend,
    /// End.
    Close,
}

/// A record to add.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) bytes: Vec<u8>,
    pub(super) stripe: u16,
    pub(super) appended_ms: i64,
    pub(super) done: oneshot::Sender<Result<(), Failure>>,
}

/// The files of this process's slot.
#[derive(Debug)]
pub(super) struct Writer {
    slot: Slot,
    backlog: Arc<Backlog>,
    limit_bytes: u64,
    active: Option<Active>,
    next_number: u64,
    position: File,
}

/// The segment that is being written.
#[derive(Debug)]
struct Active {
    number: u64,
    file: File,
    /// Up to here everything is synced.
    end: u64,
}

impl Writer {
    /// Takes up `slot`, with everything in it and in the slots of dead processes.
    pub(super) fn open(slot: Slot, backlog: Arc<Backlog>, limit_bytes: u64) -> io::Result<Self> {
        let position = Position::read(&slot.dir);
        let file = position::open(&slot.dir)?;
        let mut writer = Self { slot, backlog, limit_bytes, active: None, next_number: 0, position: file };
        match writer.probe() {
            // A full disk is no reason not to start: only draining makes room, and only a running process drains.
            // `tend` checks again.
            Err(error) if is_full(&error) => {
                warn!(%error, "the spool starts on a full disk");
                writer.backlog.set_failing(true);
            }
            probed => probed?,
        }
        let segments = segment::list(&writer.slot.dir)?;
        // No number is ever used twice, else an old position would hide new messages.
        writer.next_number = segments.last().copied().unwrap_or_default().max(position.segment) + 1;
        for number in segments {
            let path = segment::path(&writer.slot.dir, number);
            if number < position.segment {
                fs::remove_file(path)?;
                continue;
            }
            let from = if number == position.segment { position.offset } else { 0 };
            writer.take_over(number, from)?;
        }
        writer.adopt()?;
        Ok(writer)
    }

    /// Counts what segment `number` of a dead process holds from `from` on, and queues it up.
    fn take_over(&mut self, number: u64, from: u64) -> io::Result<()> {
        let path = segment::path(&self.slot.dir, number);
        let contents = scan(&path, from)?;
        if contents.end <= from {
            return fs::remove_file(path);
        }
        self.backlog.begin_segment(number, &contents);
        if from > 0 {
            self.backlog.done(&[Stretch { segment: number, from: 0, to: from }], &[]);
        }
        Ok(())
    }

    /// Executes commands until [`Command::Close`], or until no sender of commands is left.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut next = commands.blocking_recv();
        while let Some(command) = next.take() {
            match command {
                Command::Append(first) => {
                    let batch;
                    (batch, next) = gather(first, &mut commands);
                    self.append(batch);
                }
                Command::Drained(stretches, stripes, done) => {
                    self.drained(&stretches, &stripes);
                    done.send(()).ok();
                }
                Command::LayAside(number, done) => {
                    self.lay_aside(number);
                    done.send(()).ok();
                }
                Command::Tend => self.tend(),
                Command::Close => return,
            }
            if next.is_none() {
                next = commands.blocking_recv();
            }
        }
    }

    fn append(&mut self, batch: Vec<Append>) {
        let on_disk = self.backlog.bytes_on_disk();
        let mut bytes = Vec::new();
        let mut fitting = Vec::new();
        for append in batch {
            if on_disk + (bytes.len() + append.bytes.len()) as u64 > self.limit_bytes {
                self.backlog.withdraw(append.stripe);
                self.backlog.set_full(true);
                drop(append.done.send(Err(Failure::transient("the spool is full"))));
            } else {
                bytes.extend(&append.bytes);
                fitting.push(append);
            }
        }
        let Some(first) = fitting.first() else { return };
        let stripes: Vec<u16> = fitting.iter().map(|append| append.stripe).collect();
        match self.write(&bytes) {
            Ok(end) => {
                self.backlog.grow(end, &stripes, first.appended_ms);
                metrics::counter!("switchboard_spool_appended_total").increment(stripes.len() as u64);
                fitting.into_iter().for_each(|append| drop(append.done.send(Ok(()))));
            }
            Err(error) => {
                warn!(%error, messages = stripes.len(), "the spool cannot be written");
                self.backlog.set_failing(true);
                stripes.iter().for_each(|stripe| self.backlog.withdraw(*stripe));
                for append in fitting {
                    drop(append.done.send(Err(Failure::transient(format!("the spool cannot be written: {error}")))));
                }
            }
        }
    }

    /// Adds `bytes` to the active segment, durably; returns where it ends now.
    fn write(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let mut active = match self.active.take() {
            Some(active) => active,
            None => self.begin_segment()?,
        };
        reach_doing(Step::Spooling, || drop(active.file.write_all(bytes.get(..bytes.len() / 2).unwrap_or_default())));
        let written = active.file.write_all(bytes).and_then(|()| active.file.sync_data());
        // The file's name must be durable too, and it is new as long as nothing was written.
        let written = written.and_then(|()| if active.end == 0 { sync_dir(&self.slot.dir) } else { Ok(()) });
        if let Err(error) = written {
            self.abandon(&active);
            return Err(error);
        }
        active.end += bytes.len() as u64;
        let end = active.end;
        if end < SEGMENT_BYTES.min(self.limit_bytes / 4) {
            self.active = Some(active);
        }
        Ok(end)
    }

    fn begin_segment(&mut self) -> io::Result<Active> {
        let number = self.next_number;
        let file = writable().create_new(true).open(segment::path(&self.slot.dir, number))?;
        self.next_number += 1;
        self.backlog.begin_segment(number, &segment::Contents::default());
        Ok(Active { number, file, end: 0 })
    }

    /// Gives up a segment that could not be written: the contents of a file after a failed sync cannot be relied on.
    /// The synced bytes stay. The bytes behind them were not accepted and are cut off, so that they cannot come back.
    fn abandon(&mut self, active: &Active) {
        if active.end == 0 {
            self.backlog.lose(active.number);
            self.delete(active.number);
        } else if let Err(error) = active.file.set_len(active.end) {
            warn!(%error, "cannot cut off what the spool did not accept: it may be published after a restart");
        }
    }

    fn drained(&mut self, stretches: &[Stretch], stripes: &[u16]) {
        let (finished, position) = self.backlog.done(stretches, stripes);
        if let Some(Err(error)) = position.map(|position| position.write(&self.position)) {
            warn!(%error, "cannot note how far the spool is drained: a restart will publish some messages again");
        }
        finished.into_iter().for_each(|number| self.delete(number));
    }

    fn delete(&mut self, number: u64) {
        self.active.take_if(|active| active.number == number);
        if let Err(error) = fs::remove_file(segment::path(&self.slot.dir, number)) {
            warn!(%error, "cannot delete a drained segment of the spool");
        }
    }

    fn lay_aside(&mut self, number: u64) {
        self.active.take_if(|active| active.number == number);
        let path = segment::path(&self.slot.dir, number);
        if let Err(error) = fs::rename(&path, path.with_extension("unreadable")) {
            warn!(%error, "cannot lay an unreadable segment of the spool aside");
        }
        self.backlog.lose(number);
    }

    fn tend(&mut self) {
        if let Err(error) = self.adopt() {
            warn!(%error, "cannot take over what another process left in the spool");
        }
        if self.backlog.is_failing() && self.probe().is_ok() {
            info!("the spool can be written again");
            self.backlog.set_failing(false);
        }
    }

    /// Whether a file can be made, written and synced.
    fn probe(&self) -> io::Result<()> {
        let path = self.slot.dir.join("probe");
        let mut file = writable().create(true).truncate(true).open(&path)?;
        let written = file.write_all(&[0; 4096]).and_then(|()| file.sync_data());
        drop(file);
        // On a full disk even these few bytes are needed.
        fs::remove_file(path).and(written)
    }

    /// Moves the segments of dead processes behind our own.
    fn adopt(&mut self) -> io::Result<()> {
        for dead in self.slot.abandoned()? {
            let drained = Position::read(&dead.dir).segment;
            let segments = segment::list(&dead.dir)?;
            if segments.is_empty() {
                continue;
            }
            // Our active segment must not grow once theirs are behind it.
            self.active = None;
            info!(segments = segments.len(), "takes over what a dead process left in the spool");
            for theirs in segments {
                let from = segment::path(&dead.dir, theirs);
                if theirs < drained {
                    fs::remove_file(from)?;
                    continue;
                }
                let (number, to) = (self.next_number, segment::path(&self.slot.dir, self.next_number));
                self.next_number += 1;
                fs::rename(from, to)?;
                self.take_over(number, 0)?;
            }
            sync_dir(&self.slot.dir)?;
            sync_dir(&dead.dir)?;
        }
        Ok(())
    }
}

/// Whether the error only means that there is no room.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Everything that waits to be appended, and the command after it if one came.
fn gather(first: Append, commands: &mut mpsc::Receiver<Command>) -> (Vec<Append>, Option<Command>) {
    let mut size = first.bytes.len();
    let mut batch = vec![first];
    while size < BATCH_BYTES {
        match commands.try_recv() {
            Ok(Command::Append(append)) => {
                size += append.bytes.len();
                batch.push(append);
            }
            other => return (batch, other.ok()),
        }
    }
    (batch, None)
}
