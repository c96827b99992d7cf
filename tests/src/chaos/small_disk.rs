//! A disk that is soon full: a file system in memory of a few pages, or where the machine allows none, a limit on the
//! length of every file that a process writes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Some forty-five texts.
const SIZE_KIB: u64 = 32;
/// It counts as full when no page is left for another segment.
const FULL_BYTES: u64 = (SIZE_KIB - 8) * 1024;

/// A small disk below one directory; it goes when dropped.
#[derive(Debug)]
pub(super) struct SmallDisk {
    mounted: Option<PathBuf>,
}

impl SmallDisk {
    /// Puts a small disk at `path`.
    pub(super) fn at(path: &Path) -> Self {
        std::fs::create_dir_all(path).expect("a directory can be made");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={SIZE_KIB}k,mode=0700"), "tmpfs"]).arg(path);
        let is_mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        Self { mounted: is_mounted.then(|| path.to_owned()) }
    }

    /// The most KiB that a file of the process may have, where there is no disk of its own.
    pub(super) fn longest_file_kib(&self) -> Option<u64> {
        self.mounted.is_none().then_some(SIZE_KIB / 4)
    }
}

impl SmallDisk {
    /// Whether nothing more fits on it; where it is only a limit on files, nobody knows.
    pub(super) fn is_full(&self) -> bool {
        self.mounted.as_ref().is_none_or(|path| bytes_below(path) >= FULL_BYTES)
    }
}

/// The lengths of all files below `path`; what vanishes meanwhile counts nothing.
fn bytes_below(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Some(path) = &self.mounted {
            // Lazily: a process that is ending may still have files there.
            drop(Command::new("umount").arg("--lazy").arg(path).status());
        }
    }
}
