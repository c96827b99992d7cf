//! A segment: one file of records. It is written by one process from its start to its end, never again after a restart,
//! and deleted once all of it is drained.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::record::{self, Read};

const EXTENSION: &str = "records";

/// The file of segment `number` in `dir`. Names sort as numbers do.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.{EXTENSION}"))
}

/// The segments in `dir`, oldest first.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_segment = path.extension().is_some_and(|extension| extension == EXTENSION);
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        numbers.extend(stem.filter(|_| is_segment).and_then(|stem| stem.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The bytes of the file at `path` from `from` to `to`; fewer if it ends before. A segment has a few MiB at most.
pub(super) fn load(path: &Path, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(to.saturating_sub(from)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a segment of a dead process holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Its length in bytes, damaged ones included.
    pub(super) end: u64,
    /// The stripe of each record that can be read.
    pub(super) stripes: Vec<u16>,
    /// When the first of them was appended.
    pub(super) oldest_ms: Option<i64>,
}

/// Reads through the segment at `path`, from `from` on.
pub(super) fn scan(path: &Path, from: u64) -> io::Result<Contents> {
    let end = fs::metadata(path)?.len();
    let bytes = load(path, from, end)?;
    let mut contents = Contents { end, ..Contents::default() };
    let mut rest = bytes.as_slice();
    while let Some(read) = record::read(rest) {
        let length = match read {
            Read::Whole(record, length) => {
                contents.oldest_ms.get_or_insert(record.appended_ms);
                contents.stripes.push(record.stripe);
                length
            }
            Read::Damaged { bytes, .. } => bytes,
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(contents)
}
