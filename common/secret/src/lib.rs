//! A secret, and the file it came from. A mounted file changes while the process runs, so it is read again.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The largest file that is read as a secret; a wrong path may lead to an endless one.
const LARGEST_FILE_BYTES: u64 = 64 * 1024;
/// How often the files are read at most: any client can send a wrong proof, and each could cost a look at the disk.
const BETWEEN_READS: Duration = Duration::from_secs(10);

/// A secret whose clones all change together. Never empty when it was read from a file.
#[derive(Clone)]
pub struct Secret(Arc<Inner>);

struct Inner {
    current: RwLock<Current>,
    file: Option<PathBuf>,
}

#[derive(Clone)]
struct Current {
    value: SecretString,
    /// When it was found to have changed on disk.
    changed_at: Option<Instant>,
}

impl Secret {
    /// The content of the file at `path`, without line ends at its end. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// When the file cannot be read, is no text, is empty or is larger than 64 KiB.
    pub fn in_file(path: &Path) -> io::Result<Self> {
        Ok(Self::new(read(path)?, Some(path.to_owned())))
    }

    fn new(value: SecretString, file: Option<PathBuf>) -> Self {
        Self(Arc::new(Inner { current: RwLock::new(Current { value, changed_at: None }), file }))
    }

    /// Its current value.
    #[must_use]
    pub fn current(&self) -> SecretString {
        self.look().value
    }

    /// Reads its file again, if it has one. Returns whether the secret changed. A file that cannot be read leaves the
    /// secret as it was, and is logged. Blocks for as long as the disk takes.
    pub fn read_again(&self) -> bool {
        let Some(path) = &self.0.file else { return false };
        match read(path) {
            Ok(value) if value.expose_secret() == self.current().expose_secret() => false,
            Ok(value) => {
                let changed = Current { value, changed_at: Some(Instant::now()) };
                *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = changed;
                tracing::info!(file = %path.display(), "a secret has changed");
                true
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a secret cannot be read again, the old one stays");
                false
            }
        }
    }

    fn look(&self) -> Current {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl From<SecretString> for Secret {
    fn from(value: SecretString) -> Self {
        Self::new(value, None)
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self::from(SecretString::from(value))
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self::from(SecretString::from(value))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(REDACTED)")
    }
}

/// Secrets that check a proof together. When the check fails, their files are read again, every 10 s at most.
#[derive(Debug)]
pub struct Keyring {
    secrets: Vec<Secret>,
    read_at: Mutex<Option<Instant>>,
}

impl Keyring {
    /// A keyring of `secrets`. A secret without a file cannot change.
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        let secrets = secrets.into_iter().filter(|secret| secret.0.file.is_some()).collect();
        Self { secrets, read_at: Mutex::new(None) }
    }

    /// Whether any of them has a file.
    #[must_use]
    pub fn can_change(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// Whether a proof that failed, and was tried after `since`, may succeed now because a secret has changed.
    pub async fn has_changed(&self, since: Instant) -> bool {
        self.has_changed_at(Instant::now(), since).await
    }

    async fn has_changed_at(&self, now: Instant, since: Instant) -> bool {
        if !self.can_change() {
            return false;
        }
        // Callers that fail during a read wait for its result.
        let mut read_at = self.read_at.lock().await;
        if read_at.is_none_or(|read_at| now.saturating_duration_since(read_at) >= BETWEEN_READS) {
            read_again(self.secrets.clone()).await;
            *read_at = Some(now);
        }
        let changes = self.secrets.iter().filter_map(|secret| secret.look().changed_at);
        changes.into_iter().any(|changed_at| changed_at >= since)
    }
}

/// Reads the files of all `secrets` again, and says how many changed.
pub async fn read_again(secrets: Vec<Secret>) -> usize {
    let read = move || secrets.iter().filter(|secret| secret.read_again()).count();
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

fn read(path: &Path) -> io::Result<SecretString> {
    let mut text = String::new();
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::other("it is a directory"));
    }
    let size = file.take(LARGEST_FILE_BYTES + 1).read_to_string(&mut text)?;
    if u64::try_from(size).is_ok_and(|size| size > LARGEST_FILE_BYTES) {
        return Err(io::Error::other("it is larger than 64 KiB"));
    }
    if text.trim().is_empty() {
        return Err(io::Error::other("it is empty"));
    }
    Ok(without_line_end(&text).into())
}

/// `secret` without line ends at its end: files end with one, and so do the variables that are filled from them.
#[must_use]
pub fn without_line_end(secret: &str) -> String {
    secret.trim_end_matches(['\r', '\n']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_file(text: &str) -> (tempfile::TempDir, PathBuf, Secret) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, text).unwrap();
        let secret = Secret::in_file(&path).unwrap();
        (directory, path, secret)
    }

    #[test]
    fn t12_every_clone_sees_what_the_file_says_now() {
        let (_directory, path, secret) = in_file("old\n");
        let clone = secret.clone();
        assert!(!secret.read_again(), "nothing has changed");
        std::fs::write(&path, "new\r\n").unwrap();
        assert!(secret.read_again());
        assert_eq!(clone.current().expose_secret(), "new");
        assert!(!format!("{clone:?}").contains("new"));
    }

    #[test]
    fn t12_what_cannot_be_read_leaves_the_secret_as_it_was() {
        let (_directory, path, secret) = in_file("old");
        let too_long = "x".repeat(65 * 1024);
        for unreadable in ["".as_bytes(), b" \n", b"\xff\xfe", too_long.as_bytes()] {
            std::fs::write(&path, unreadable).unwrap();
            assert!(!secret.read_again());
        }
        std::fs::remove_file(&path).unwrap();
        assert!(!secret.read_again());
        assert_eq!(secret.current().expose_secret(), "old");
    }

    #[tokio::test]
    async fn t12_files_are_read_every_ten_seconds_at_most() {
        let (_directory, path, secret) = in_file("old");
        let keyring = Keyring::new([secret.clone(), Secret::from("text")]);
        let start = Instant::now();
        assert!(!keyring.has_changed_at(start, start).await, "the file is as it was");
        std::fs::write(&path, "new").unwrap();
        assert!(!keyring.has_changed_at(start + BETWEEN_READS / 2, start).await, "it was read a moment ago");
        let later = start + BETWEEN_READS;
        assert!(keyring.has_changed_at(later, start).await);
        assert!(keyring.has_changed_at(later, start).await, "also for those who failed at the same time");
        let with_the_new_one = Instant::now() + Duration::from_millis(1);
        assert!(
            !keyring.has_changed_at(later, with_the_new_one).await,
            "but not for a proof that was tried with the new one"
        );
        assert!(!Keyring::new([Secret::from("text")]).has_changed(start).await);
    }
}
