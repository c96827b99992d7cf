//! A store that forgets a ledger on purpose, so that the fault suite can show that its judge would notice.

use std::sync::Arc;

use async_trait::async_trait;
use message::failpoint::{Sabotage, is_broken};
use message::failure::Failure;
use store::{Commit, Key, Record, Store, Write};

/// `inner`, broken as ordered.
pub(crate) fn store(inner: Arc<dyn Store>) -> Arc<dyn Store> {
    if is_broken(Sabotage::ForgetTurns) {
        return Arc::new(Forgetful { inner, forgets: "turn/" });
    }
    if is_broken(Sabotage::ForgetSends) {
        return Arc::new(Forgetful { inner, forgets: "part/" });
    }
    inner
}

/// Forgets the records whose names begin with `forgets`.
#[derive(Debug)]
struct Forgetful {
    inner: Arc<dyn Store>,
    forgets: &'static str,
}

#[async_trait]
impl Store for Forgetful {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Failure> {
        let mut records = self.inner.get(keys).await?;
        for (key, record) in keys.iter().zip(&mut records) {
            if key.name.starts_with(self.forgets) {
                *record = None;
            }
        }
        Ok(records)
    }

    async fn commit(&self, writes: &[Write]) -> Result<Commit, Failure> {
        let kept: Vec<Write> =
            writes.iter().filter(|write| !write.key.name.starts_with(self.forgets)).cloned().collect();
        if kept.is_empty() { Ok(Commit::Applied) } else { self.inner.commit(&kept).await }
    }

    async fn check(&self) -> Result<(), Failure> {
        self.inner.check().await
    }
}
