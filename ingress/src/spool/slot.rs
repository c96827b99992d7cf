//! A process's place in the spool: a numbered directory that it has locked. The lock ends with the process, however it
//! ends, so the slot of a dead process can be told from one that is in use.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// How many slots are tried: more than the processes that ever share a directory.
const SLOTS: u32 = 1024;

/// A directory of the spool that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) dir: PathBuf,
    _lock: File,
}

impl Slot {
    /// The first slot below `spool` that no process has.
    ///
    /// # Errors
    /// When a directory cannot be made or locked.
    pub(super) fn claim(spool: &Path) -> io::Result<Self> {
        make_dir(spool)?;
        for number in 0..SLOTS {
            if let Some(slot) = Self::try_claim(spool.join(number.to_string()))? {
                return Ok(slot);
            }
        }
        Err(io::Error::other(format!("more than {SLOTS} processes use it")))
    }

    /// The other slots that no process has: their processes are dead.
    pub(super) fn abandoned(&self) -> io::Result<Vec<Self>> {
        let Some(spool) = self.dir.parent() else { return Ok(Vec::new()) };
        let mut abandoned = Vec::new();
        for entry in fs::read_dir(spool)? {
            let dir = entry?.path();
            let is_slot =
                dir.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<u32>().is_ok());
            if is_slot && dir != self.dir && dir.is_dir() {
                abandoned.extend(Self::try_claim(dir)?);
            }
        }
        Ok(abandoned)
    }

    fn try_claim(dir: PathBuf) -> io::Result<Option<Self>> {
        make_dir(&dir)?;
        let lock = writable().create(true).truncate(false).open(dir.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { dir, _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Options for files that only our user may read: they hold texts and numbers.
pub(super) fn writable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes the names in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)?;
    dir.parent().map_or(Ok(()), sync_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_takes_the_first_free_slot_and_finds_what_the_dead_left() {
        let spool = tempfile::tempdir().unwrap();
        let claim = || Slot::claim(spool.path()).unwrap();
        let (first, second, third) = (claim(), claim(), claim());
        assert_eq!([&first, &second, &third].map(|slot| slot.dir.file_name().unwrap()), ["0", "1", "2"]);
        fs::create_dir(spool.path().join("lost+found")).unwrap();
        assert!(first.abandoned().unwrap().is_empty());
        let dead = second.dir.clone();
        drop(second);
        assert_eq!(first.abandoned().unwrap()[0].dir, dead);
        assert_eq!(claim().dir, dead);
    }
}
