//! The contract of every store adapter.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use store::{Commit, Expect, Key, Record, Store, Write};
use tokio::time::{Instant, sleep};

use super::DEADLINE;

/// A lifetime so long that no record expires during a case.
const LONG: Duration = Duration::from_secs(3600);

/// Records of one case's own.
#[async_trait]
pub trait StoreFixture: Send + Sync {
    /// Another, independent connection to the same records, as another worker would have.
    async fn connect(&self) -> Arc<dyn Store>;

    /// A connection to the same records after a restart, as far as the fixture can do one. Every store that came from
    /// [`StoreFixture::connect`] has been dropped by then.
    async fn reopen(&self) -> Arc<dyn Store> {
        self.connect().await
    }
}

/// Makes a `#[tokio::test]` of every case. `$fixture` is an expression that returns a fresh fixture.
#[macro_export]
macro_rules! store_suite {
    ($fixture:expr) => {
        $crate::store_suite!(@cases $fixture;
            what_was_never_written_is_absent
            what_was_put_is_read
            records_outlive_a_restart
            every_write_changes_the_version
            expectations_are_checked
            a_commit_is_all_or_nothing
            a_record_expires
            a_later_put_extends_the_life
            a_created_again_key_has_a_new_version
            concurrent_increments_lose_nothing
            only_one_of_many_creates_a_record
            a_deleted_record_is_absent
            values_may_be_any_bytes
            values_of_100_kib_fit
            a_stale_writer_is_fenced
            several_records_are_read_in_the_order_asked
            scopes_do_not_mix
            the_check_passes
        );
    };
    (@cases $fixture:expr; $($case:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::conformance::store::$case(&$fixture).await;
        })*
    };
}

fn key(name: &str) -> Key {
    Key::new("2570a818286cb81db434fbeca103aea8", name)
}

async fn read(store: &dyn Store, key: &Key) -> Option<Record> {
    store.get(std::slice::from_ref(key)).await.unwrap().pop().unwrap()
}

async fn value(store: &dyn Store, key: &Key) -> Option<Bytes> {
    read(store, key).await.map(|record| record.value)
}

async fn commit(store: &dyn Store, writes: &[Write]) -> Commit {
    store.commit(writes).await.unwrap()
}

async fn put(store: &dyn Store, key: &Key, text: &str) -> Record {
    let write = Write::put(key.clone(), Expect::Anything, text.to_owned(), LONG);
    assert_eq!(commit(store, &[write]).await, Commit::Applied);
    read(store, key).await.expect("it was just put")
}

/// Waits until `key` is absent; panics after the deadline.
async fn expire(store: &dyn Store, key: &Key) {
    let deadline = Instant::now() + DEADLINE;
    while read(store, key).await.is_some() {
        assert!(Instant::now() < deadline, "it does not expire");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A missing record is an answer, not an error.
pub async fn what_was_never_written_is_absent(fixture: &dyn StoreFixture) {
    let store = fixture.connect().await;
    assert_eq!(store.get(&[key("a"), key("b")]).await.unwrap(), [None, None]);
    assert_eq!(store.get(&[]).await.unwrap(), []);
}

/// A record is read back, from another connection too.
pub async fn what_was_put_is_read(fixture: &dyn StoreFixture) {
    let (one, other) = (fixture.connect().await, fixture.connect().await);
    put(&*one, &key("session"), "hello").await;
    assert_eq!(value(&*one, &key("session")).await.unwrap(), "hello");
    assert_eq!(value(&*other, &key("session")).await.unwrap(), "hello");
}

/// Values and versions are durable.
pub async fn records_outlive_a_restart(fixture: &dyn StoreFixture) {
    let store = fixture.connect().await;
    let before = put(&*store, &key("session"), "kept").await;
    drop(store);
    let store = fixture.reopen().await;
    assert_eq!(read(&*store, &key("session")).await, Some(before.clone()));
    assert_ne!(put(&*store, &key("session"), "changed").await.version, before.version);
}

/// The version differs between two writes even when the value is the same.
pub async fn every_write_changes_the_version(fixture: &dyn StoreFixture) {
    let store = fixture.connect().await;
    let mut versions = Vec::new();
    for _ in 0..20 {
        versions.push(put(&*store, &key("session"), "the same").await.version);
    }
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 20);
}

/// Each expectation is met when it should be, and only then.
pub async fn expectations_are_checked(fixture: &dyn StoreFixture) {
    let store = fixture.connect().await;
    let attempt = |expect, text: &'static str| {
        let store = Arc::clone(&store);
        async move { commit(&*store, &[Write::put(key("a"), expect, text, LONG)]).await }
    };
    assert_eq!(attempt(Expect::Version(1), "too early").await, Commit::Conflict);
    assert_eq!(attempt(Expect::Absent, "first").await, Commit::Applied);
    assert_eq!(attempt(Expect::Absent, "second").await, Commit::Conflict);
    let record = read(&*store, &key("a")).await.unwrap();
    assert_eq!(record.value, "first");
    assert_eq!(attempt(Expect::Version(record.version + 1), "third").await, Commit::Conflict);
    assert_eq!(attempt(Expect::Version(record.version), "fourth").await, Commit::Applied);
    assert_eq!(attempt(Expect::Version(record.version), "fifth").await, Commit::Conflict);
    assert_eq!(attempt(Expect::Anything, "sixth").await, Commit::Applied);
    assert_eq!(value(&*store, &key("a")).await.unwrap(), "sixth");
}

/// One unmet expectation stops all writes of a commit.
pub async fn a_commit_is_all_or_nothing(fixture: &dyn StoreFixture) {
    let store = fixture.connect().await;
    let kept = put(&*store, &key("kept"), "as it was").await;
    let together = |last: Expect| {
        [
            Write::put(key("new"), Expect::Absent, "new", LONG),
            Write::delete(key("kept"), Expect::Version(kept.version)),
            Write::put(key("guard"), last, "guard", LONG),
        ]
    };
    assert_eq!(commit(&*store, &together(Expect::Version(7))).await, Commit::Conflict);
    let names = [key("new"), key("kept"), key("guard")];
    assert_eq!(store.get(&names).await.unwrap(), [None, Some(kept.clone()), None]);

    assert_eq!(commit(&*store, &together(Expect::Absent)).await, Commit::Applied);
    let values: Vec<_> = store.get(&names).await.unwrap().into_iter().map(|r| r.map(|r| r.value)).collect();
    assert_eq!(values, [Some(Bytes::from("new")), None, Some(Bytes::from("guard"))]);
}

/// An expired record counts as missing, also for expectations.
pub async fn a_record_expires(fixture: &dyn StoreFixture) {
    let store = fixture.connect().await;
    let ttl = Duration::from_millis(1500);
    let started = Instant::now();
    let brief = [
        Write::put(key("brief"), Expect::Anything, "soon gone", ttl),
        Write::put(key("long"), Expect::Anything, "stays", LONG),
    ];
    assert_eq!(commit(&*store, &brief).await, Commit::Applied);
    let version = read(&*store, &key("brief")).await.expect("it has not expired yet").version;
    expire(&*store, &key("brief")).await;
    // The adapter's clock and the test's may differ by a few milliseconds.
    assert!(started.elapsed() >= ttl - Duration::from_millis(20), "gone after {:?}", started.elapsed());
    assert!(read(&*store, &key("long")).await.is_some());
    let stale = [Write::put(key("brief"), Expect::Version(version), "too late", LONG)];
    assert_eq!(commit(&*store, &stale).await, Commit::Conflict);
    let fresh = [Write::put(key("brief"), Expect::Absent, "again", LONG)];
    assert_eq!(commit(&*store, &fresh).await, Commit::Applied);
}

/// The last put decides the lifetime of a record.
pub async fn a_later_put_extends_the_life(fixture: &dyn StoreFixture) {
    let store = fixture.connect().await;
    let brief = Duration::from_millis(300);
    let both = ["extended", "control"].map(|name| Write::put(key(name), Expect::Anything, "brief", brief));
    assert_eq!(commit(&*store, &both).await, Commit::Applied);
    put(&*store, &key("extended"), "long").await;
    expire(&*store, &key("control")).await;
    assert_eq!(value(&*store, &key("extended")).await.unwrap(), "long");
}

/// Versions of a key never repeat, neither after deletion nor after expiry.
pub async fn a_created_again_key_has_a_new_version(fixture: &dyn StoreFixture) {
    let store = fixture.connect().await;
    let mut versions = Vec::new();
    for _ in 0..5 {
        versions.push(put(&*store, &key("session"), "same").await.version);
        assert_eq!(commit(&*store, &[Write::delete(key("session"), Expect::Anything)]).await, Commit::Applied);
    }
    let brief = Write::put(key("session"), Expect::Absent, "same", Duration::from_secs(2));
    assert_eq!(commit(&*store, &[brief]).await, Commit::Applied);
    versions.push(read(&*store, &key("session")).await.expect("it has not expired yet").version);
    expire(&*store, &key("session")).await;
    versions.push(put(&*store, &key("session"), "same").await.version);
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 7);
}

/// Writers that expect the record unchanged since their read never overwrite each other.
pub async fn concurrent_increments_lose_nothing(fixture: &dyn StoreFixture) {
    const WRITERS: usize = 8;
    const INCREMENTS: usize = 25;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let store = fixture.connect().await;
        writers.spawn(async move {
            for _ in 0..INCREMENTS {
                increment(&*store).await;
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let total = value(&*fixture.connect().await, &key("counter")).await.unwrap();
    assert_eq!(total, (WRITERS * INCREMENTS).to_string());
}

async fn increment(store: &dyn Store) {
    loop {
        let found = read(store, &key("counter")).await;
        let count: usize =
            found.as_ref().map_or(0, |record| std::str::from_utf8(&record.value).unwrap().parse().unwrap());
        let next = Write::put(key("counter"), Expect::unchanged(found.as_ref()), (count + 1).to_string(), LONG);
        if commit(store, &[next]).await == Commit::Applied {
            return;
        }
    }
}

/// When many writers create the same record, one succeeds.
pub async fn only_one_of_many_creates_a_record(fixture: &dyn StoreFixture) {
    let mut claimants = tokio::task::JoinSet::new();
    for number in 0..16 {
        let store = fixture.connect().await;
        claimants.spawn(async move {
            commit(&*store, &[Write::put(key("claim"), Expect::Absent, number.to_string(), LONG)]).await
        });
    }
    let results = claimants.join_all().await;
    assert_eq!(results.iter().filter(|result| **result == Commit::Applied).count(), 1);
}

/// Deletion also has expectations.
pub async fn a_deleted_record_is_absent(fixture: &dyn StoreFixture) {
    let store = fixture.connect().await;
    let record = put(&*store, &key("a"), "here").await;
    let stale = Write::delete(key("a"), Expect::Version(record.version + 1));
    assert_eq!(commit(&*store, &[stale]).await, Commit::Conflict);
    let delete = Write::delete(key("a"), Expect::Version(record.version));
    assert_eq!(commit(&*store, &[delete]).await, Commit::Applied);
    assert_eq!(read(&*store, &key("a")).await, None);
    // Deleting a missing record succeeds and changes nothing.
    assert_eq!(commit(&*store, &[Write::delete(key("a"), Expect::Absent)]).await, Commit::Applied);
}

/// Values are any bytes; names are any text.
pub async fn values_may_be_any_bytes(fixture: &dyn StoreFixture) {
    let store = fixture.connect().await;
    let bytes: Vec<u8> = (0..=255).chain([0, 0, 10, 13, 255]).collect();
    let writes = [
        Write::put(key("bytes"), Expect::Anything, bytes.clone(), LONG),
        Write::put(key("empty"), Expect::Anything, Bytes::new(), LONG),
        Write::put(key("naïve/ключ \u{1F4AC}"), Expect::Anything, "odd name", LONG),
    ];
    assert_eq!(commit(&*store, &writes).await, Commit::Applied);
    assert_eq!(value(&*store, &key("bytes")).await.unwrap(), bytes);
    assert_eq!(value(&*store, &key("empty")).await.unwrap(), Bytes::new());
    assert_eq!(value(&*store, &key("naïve/ключ \u{1F4AC}")).await.unwrap(), "odd name");
}

/// Sessions with a large context fit.
pub async fn values_of_100_kib_fit(fixture: &dyn StoreFixture) {
    let store = fixture.connect().await;
    let large: Vec<u8> = (0..100 * 1024_u32).map(|i| (i % 251).to_le_bytes()[0]).collect();
    let write = Write::put(key("large"), Expect::Absent, large.clone(), LONG);
    assert_eq!(commit(&*store, &[write]).await, Commit::Applied);
    assert_eq!(value(&*store, &key("large")).await.unwrap(), large);
}

/// A worker that lost its conversation cannot overwrite the work of the worker that took over.
pub async fn a_stale_writer_is_fenced(fixture: &dyn StoreFixture) {
    let (old, new) = (fixture.connect().await, fixture.connect().await);
    put(&*old, &key("session"), "opened").await;
    let read_by_old = read(&*old, &key("session")).await;
    put(&*new, &key("session"), "taken over").await;
    let late = [
        Write::put(key("session"), Expect::unchanged(read_by_old.as_ref()), "overwritten", LONG),
        Write::put(key("ledger"), Expect::Anything, "done", LONG),
    ];
    assert_eq!(commit(&*old, &late).await, Commit::Conflict);
    assert_eq!(value(&*new, &key("session")).await.unwrap(), "taken over");
    assert_eq!(value(&*new, &key("ledger")).await, None);
}

/// The answers are in the order of the keys, one for each key.
pub async fn several_records_are_read_in_the_order_asked(fixture: &dyn StoreFixture) {
    let store = fixture.connect().await;
    for name in ["a", "b", "c"] {
        put(&*store, &key(name), name).await;
    }
    let read = store.get(&[key("c"), key("missing"), key("a"), key("c")]).await.unwrap();
    let values: Vec<_> = read.into_iter().map(|record| record.map(|r| r.value)).collect();
    assert_eq!(values, [Some(Bytes::from("c")), None, Some(Bytes::from("a")), Some(Bytes::from("c"))]);
}

/// The same name in two scopes means two records.
pub async fn scopes_do_not_mix(fixture: &dyn StoreFixture) {
    let store = fixture.connect().await;
    put(&*store, &Key::new("one", "session"), "of one").await;
    put(&*store, &Key::new("two", "session"), "of two").await;
    assert_eq!(value(&*store, &Key::new("one", "session")).await.unwrap(), "of one");
    assert_eq!(value(&*store, &Key::new("two", "session")).await.unwrap(), "of two");
    assert_eq!(value(&*store, &Key::new("onesession", "")).await, None);
}

/// A working store passes its own check.
pub async fn the_check_passes(fixture: &dyn StoreFixture) {
    fixture.connect().await.check().await.unwrap();
}
