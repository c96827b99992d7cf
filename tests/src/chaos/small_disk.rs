//! A disk that is soon full: a file system in memory of a few pages. If the machine does not allow one, it is a limit
//! on the length of every file that a process writes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The size of the disk in KiB: room for some forty-five texts.
const SIZE_KIB: u64 = 32;
/// The length of all files, in bytes, from which the disk counts as full: no page is left for another segment.
const FULL_BYTES: u64 = (SIZE_KIB - 8) * 1024;

/// A small disk on one directory; unmounted when dropped.
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

    /// The largest file that the process may write, in KiB, if there is no separate disk.
    pub(super) fn longest_file_kib(&self) -> Option<u64> {
        self.mounted.is_none().then_some(SIZE_KIB / 4)
    }
}

impl SmallDisk {
    /// Whether the disk is full. With only a limit on files this is unknown, and the answer is always true.
    pub(super) fn is_full(&self) -> bool {
        self.mounted.as_ref().is_none_or(|path| bytes_below(path) >= FULL_BYTES)
    }
}

/// The length of all files below `path`. A file that is removed during the walk counts as empty.
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
            // The unmount is lazy because a process that is ending may still have files open there.
            drop(Command::new("umount").arg("--lazy").arg(path).status());
        }
    }
}
