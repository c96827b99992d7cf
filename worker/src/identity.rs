//! The customer's name towards the assistant, where it is kept, billed and analysed: a keyed hash of their number.
//!
//! A bare hash of a phone number is guessed back in seconds, so it is an HMAC. Its key is random, is kept in the store
//! and is the same for all workers: otherwise a customer would have another name after each restart.

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use message::Address;
use secrecy::{ExposeSecret as _, SecretBox};
use sha2::Sha256;
use store::{CommitOutcome, Expect, Interrupted, Key, RetryingStore, Write};
use tokio::sync::OnceCell;

/// How long the key is kept, 10 years: every record expires, and this one is extended each time a worker starts.
const KEY_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Half a SHA-256, printed: what the integration of IBM shows as a user id.
const ID_DIGITS: usize = 32;

/// Names customers.
#[derive(Debug)]
pub(crate) struct Identity {
    store: RetryingStore,
    fresh_key: SecretBox<[u8; 32]>,
    key: OnceCell<SecretBox<Vec<u8>>>,
}

impl Identity {
    /// Names customers with the key in `store`, or with `fresh_key` (random) if it is the first there.
    pub(crate) fn new(store: RetryingStore, fresh_key: [u8; 32]) -> Self {
        Self { store, fresh_key: SecretBox::new(Box::new(fresh_key)), key: OnceCell::new() }
    }

    /// Returns the name of the customer with `number`: 32 hexadecimal digits.
    pub(crate) async fn user_id(&self, number: &Address) -> Result<String, Interrupted> {
        let key = self.key.get_or_try_init(|| self.read_in()).await?;
        Ok(hash(key.expose_secret(), number))
    }

    async fn read_in(&self) -> Result<SecretBox<Vec<u8>>, Interrupted> {
        loop {
            let name = Key::new("identity", "key");
            let [record] = self.store.get([name.clone()]).await?;
            let value = record.as_ref().map_or_else(|| self.fresh_key.expose_secret().to_vec(), |r| r.value.to_vec());
            let put = Write::put(name, Expect::unchanged(record.as_ref()), value.clone(), KEY_TTL);
            let written = self.store.commit(&[put]).await?;
            // An existing record keeps its value whichever worker writes it; only the first write must be certain.
            if written == CommitOutcome::Applied || record.is_some() {
                return Ok(SecretBox::new(Box::new(value)));
            }
        }
    }
}

fn hash(key: &[u8], number: &Address) -> String {
    // An HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(number.expose().as_bytes());
    let mut id = hex::encode(mac.finalize().into_bytes());
    id.truncate(ID_DIGITS);
    id
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use embedded::{Database, EmbeddedStore};
    use message::clock::Clock;
    use message::shutdown::Shutdown;

    use super::*;

    #[test]
    fn the_name_never_changes_between_releases() {
        let number = Address::parse("+13035550199").unwrap();
        assert_eq!(hash(&[7; 32], &number), "5ee1c13b4b87d59ef2b3ffd00cf08c01");
    }

    #[tokio::test]
    async fn all_workers_give_the_same_name_whoever_came_first() {
        let store = Arc::new(EmbeddedStore::new(Database::in_memory().unwrap(), Clock::system()));
        let worker =
            |fresh_key| Identity::new(RetryingStore::new(store.clone(), Shutdown::new(Duration::ZERO)), fresh_key);
        let (first, second, number) = (worker([1; 32]), worker([2; 32]), Address::parse("+13035550199").unwrap());
        let (a, b) = tokio::join!(first.user_id(&number), second.user_id(&number));
        let later = worker([3; 32]).user_id(&number).await.unwrap();
        assert_eq!((a.unwrap(), b.unwrap()), (later.clone(), later));
    }
}
