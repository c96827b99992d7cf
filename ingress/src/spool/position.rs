//! How far the spool is drained, kept in a file beside it. It is written after each batch but not synced: after a power
//! cut it may be an older one, and some messages are then published again, which is harmless. It is never ahead of what
//! is drained.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::slot::writable;

const BYTES: usize = 20;

/// Everything before it is drained: all older segments, and this one's bytes up to the offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

impl Position {
    /// Reads the position that was last written in `dir`; the beginning if there is none, or if its checksum is wrong.
    pub(super) fn read(dir: &Path) -> Self {
        std::fs::read(path(dir)).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default()
    }

    /// Writes it to the file that [`open`] opened.
    pub(super) fn write(self, mut file: &File) -> io::Result<()> {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&self.encode())
    }

    fn encode(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let (segment, rest) = bytes.split_at_mut(8);
        let (offset, sum) = rest.split_at_mut(8);
        segment.copy_from_slice(&self.segment.to_le_bytes());
        offset.copy_from_slice(&self.offset.to_le_bytes());
        sum.copy_from_slice(&checksum(self).to_le_bytes());
        bytes
    }
}

/// Opens the file in `dir` for writing.
pub(super) fn open(dir: &Path) -> io::Result<File> {
    writable().create(true).truncate(false).open(path(dir))
}

fn path(dir: &Path) -> PathBuf {
    dir.join("position")
}

fn decode(bytes: &[u8]) -> Option<Position> {
    let (segment, rest) = bytes.split_first_chunk::<8>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let position = Position { segment: u64::from_le_bytes(*segment), offset: u64::from_le_bytes(*offset) };
    (rest == checksum(position).to_le_bytes()).then_some(position)
}

fn checksum(position: Position) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&position.segment.to_le_bytes());
    sum.update(&position.offset.to_le_bytes());
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_or_flipped_is_the_beginning() {
        let position = Position { segment: 7, offset: 4711 };
        let bytes = position.encode();
        assert_eq!(decode(&bytes), Some(position));
        for at in 0..BYTES {
            assert_eq!(decode(&bytes[..at]), None);
            let mut flipped = bytes;
            flipped[at] ^= 1;
            assert_eq!(decode(&flipped), None);
        }
    }
}
