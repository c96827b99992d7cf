//! A disk that is soon full: a file system in memory of a few pages, or where the machine allows none, a limit on the
//! length of every file that a process writes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Some ninety texts.
const SIZE_KIB: u64 = 64;

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

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Some(path) = &self.mounted {
            // Lazily: a process that is ending may still have files there.
            drop(Command::new("umount").arg("--lazy").arg(path).status());
        }
    }
}
