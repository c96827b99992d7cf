//! The rules of the repository, as tests: the allowed dependencies between crates, the length of files, and the
//! agreement between documents and code. Each rule says why it exists, and is shown to fail on a planted violation.
#![allow(clippy::expect_used, reason = "a test may fail loudly, its helpers too")]

mod documents;
mod files;
mod walls;

use std::path::{Path, PathBuf};
use std::process::Command;

/// A tracked file: its path from the root of the repository, and its text.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    pub(crate) fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// Tests may name anything.
    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// The lines above the file's tests.
    pub(crate) fn production(&self) -> String {
        let lines: Vec<_> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| {
            pair.iter().map(|line| line.trim()).eq(["#[cfg(test)]", "mod tests {"])
                || pair.iter().map(|line| line.trim()).eq(["#[cfg(test)]", "mod tests;"])
        });
        lines.iter().take(tests.unwrap_or(lines.len())).map(|line| format!("{line}\n")).collect()
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every text file that git tracks, or would track.
pub(crate) fn repository() -> Vec<File> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let paths = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    let files: Vec<_> = paths
        .split_terminator('\0')
        .filter_map(|path| Some(File::new(path, &std::fs::read_to_string(root().join(path)).ok()?)))
        .collect();
    assert!(files.len() > 20, "only {} files found", files.len());
    files
}

pub(crate) fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "\n  {}\n", found.join("\n  "));
}
