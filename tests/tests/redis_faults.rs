//! The Redis store against a server that is restarted, killed, cut off, full or read-only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use message::failure::FailureKind;
use store::redis::RedisStore;
use store::{Commit, Expect, Key, Store, Write};
use tests::house::{Backend, Blueprint, House};
use tests::servers::{RedisServer, Wire};
use tokio::time::{Instant, timeout};

const TTL: Duration = Duration::from_secs(60);

fn store_of(server: &RedisServer) -> RedisStore {
    RedisStore::new(&server.url().into(), "faults").unwrap()
}

/// Commits until the store is back. Returns the result of the last commit.
async fn commit_when_back(store: &RedisStore, write: Write) -> Commit {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match store.commit(std::slice::from_ref(&write)).await {
            Ok(commit) => return commit,
            Err(failure) => assert!(Instant::now() < deadline, "{failure}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_was_committed_survives_kill_9_and_the_store_comes_back_by_itself() {
    let server = RedisServer::start().unwrap();
    let store = store_of(&server);
    let keys: Vec<_> = (0..50).map(|i| Key::new(format!("scope{i}"), "session")).collect();
    for key in &keys {
        let write = Write::put(key.clone(), Expect::Absent, "before", TTL);
        assert_eq!(store.commit(&[write]).await.unwrap(), Commit::Applied);
    }
    server.kill().unwrap();
    let write = Write::put(keys[0].clone(), Expect::Anything, "meanwhile", TTL);
    let failed =
        timeout(Duration::from_secs(6), store.commit(&[write])).await.expect("an outage must not hang a commit");
    assert!(failed.unwrap_err().kind.is_retryable());
    server.start_again().unwrap();
    for key in &keys {
        let after = Write::put(key.clone(), Expect::Absent, "after", TTL);
        assert_eq!(commit_when_back(&store, after).await, Commit::Conflict, "the record is still there");
        let read = store.get(std::slice::from_ref(key)).await.unwrap();
        assert_eq!(read[0].as_ref().unwrap().value, "before");
    }
}

#[tokio::test]
async fn a_refused_connection_is_transient_because_nothing_was_sent() {
    let server = RedisServer::start().unwrap();
    server.stop().unwrap();
    let store = store_of(&server);
    let write = Write::put(Key::new("scope", "name"), Expect::Anything, "value", TTL);
    assert_eq!(store.commit(&[write]).await.unwrap_err().kind, FailureKind::Transient);
    assert_eq!(store.get(&[Key::new("scope", "name")]).await.unwrap_err().kind, FailureKind::Transient);
    server.start_again().unwrap();
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_cut_connection_costs_at_most_one_call_with_an_unknown_outcome() {
    let server = RedisServer::start().unwrap();
    let store = store_of(&server);
    let key = Key::new("scope", "count");
    for round in 0..20 {
        server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).unwrap();
        let write = Write::put(key.clone(), Expect::Anything, round.to_string(), TTL);
        match store.commit(std::slice::from_ref(&write)).await {
            Ok(commit) => assert_eq!(commit, Commit::Applied),
            Err(failure) => {
                assert_eq!(failure.kind, FailureKind::Unknown, "{failure}");
                assert_eq!(store.commit(&[write]).await.unwrap(), Commit::Applied, "the next call connects again");
            }
        }
        let read = store.get(std::slice::from_ref(&key)).await.unwrap();
        assert_eq!(read[0].as_ref().unwrap().value, round.to_string());
    }
}

#[tokio::test]
async fn a_server_that_hangs_makes_a_commit_unknown_within_seconds() {
    let server = RedisServer::start().unwrap();
    let store = store_of(&server);
    store.check().await.unwrap();
    server.command(&["CLIENT", "PAUSE", "5000", "WRITE"]).unwrap();
    let write = Write::put(Key::new("scope", "name"), Expect::Absent, "value", TTL);
    let started = Instant::now();
    let failure = store.commit(&[write]).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unknown, "{failure}");
    assert!(started.elapsed() < Duration::from_millis(4_500), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_full_or_read_only_server_is_transient_and_fails_the_check() {
    let server = RedisServer::start().unwrap();
    let store = store_of(&server);
    let key = Key::new("scope", "name");
    let write = |value: &str| Write::put(key.clone(), Expect::Anything, value.to_owned(), TTL);
    assert_eq!(store.commit(&[write("before")]).await.unwrap(), Commit::Applied);

    server.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let failure = store.commit(&[write("full"), write("full")]).await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_deref()), (FailureKind::Transient, Some("OOM")), "{failure}");
    assert_eq!(store.check().await.unwrap_err().kind, FailureKind::Transient);
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();

    server.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let failure = store.commit(&[write("replica")]).await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_deref()), (FailureKind::Transient, Some("READONLY")), "{failure}");
    server.command(&["REPLICAOF", "NO", "ONE"]).unwrap();

    store.check().await.unwrap();
    assert_eq!(store.get(&[key]).await.unwrap()[0].as_ref().unwrap().value, "before");
}

#[tokio::test]
async fn wrong_credentials_wait_for_an_operator() {
    let server = RedisServer::start().unwrap();
    let store = store_of(&server);
    store.check().await.unwrap();
    server.command(&["CONFIG", "SET", "requirepass", "secret"]).unwrap();
    let fresh = store_of(&server);
    assert_eq!(fresh.check().await.unwrap_err().kind, FailureKind::Misconfigured);
    let url = server.url().replace("redis://", "redis://:wrong@");
    let wrong = RedisStore::new(&url.into(), "faults").unwrap();
    let failure = wrong.check().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Misconfigured, "{failure}");
    assert!(!failure.to_string().contains("wrong"), "{failure}");
}

/// The fate of the old primary when another server takes its place.
#[derive(Debug, Clone, Copy)]
enum Failover {
    /// It becomes a replica of the new one, and still answers on its open connections, as after a change of DNS.
    Demoted,
    /// It is killed together with its connections, as in a failover by Sentinel.
    Killed,
    /// It stops answering.
    Frozen,
    /// It is cut off from its replicas, and does not accept writes any more.
    Alone,
}

/// Two servers, the second a replica of the first, and a wire to the first.
async fn replicated() -> (RedisServer, RedisServer, Wire) {
    let (old, new) = (RedisServer::start().unwrap(), RedisServer::start().unwrap());
    replicate(&new, &old);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !format!("{:?}", new.command(&["INFO", "replication"]).unwrap()).contains("master_link_status:up") {
        assert!(Instant::now() < deadline, "the replica does not follow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let wire = Wire::to(old.url()).await.unwrap();
    (old, new, wire)
}

fn replicate(replica: &RedisServer, of: &RedisServer) {
    let (host, port) = of.url().trim_start_matches("redis://").trim_end_matches("/0").split_once(':').unwrap();
    replica.command(&["REPLICAOF", host, port.trim_end_matches('/')]).unwrap();
}

fn fail_over(how: Failover, old: &RedisServer, new: &RedisServer, wire: &Wire) {
    new.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    match how {
        Failover::Demoted => replicate(old, new),
        Failover::Killed => {
            old.kill().unwrap();
            wire.cut();
        }
        Failover::Frozen => drop(old.command(&["CLIENT", "PAUSE", "600000", "ALL"]).unwrap()),
        Failover::Alone => drop(old.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]).unwrap()),
    }
    wire.lead_to(new.url());
}

#[tokio::test]
async fn t1_a_store_follows_when_another_server_becomes_the_primary() {
    for how in [Failover::Demoted, Failover::Killed, Failover::Frozen, Failover::Alone] {
        let (old, new, wire) = replicated().await;
        let store = RedisStore::new(&wire.url(old.url()).into(), "faults").unwrap();
        let (key, other) = (Key::new("scope", "name"), Key::new("scope", "other"));
        let put = |key: &Key, value: &'static str| Write::put(key.clone(), Expect::Anything, value, TTL);
        assert_eq!(store.commit(&[put(&key, "before")]).await.unwrap(), Commit::Applied);
        fail_over(how, &old, &new, &wire);
        let began = Instant::now();
        // A read comes first, as in a turn, and a replica answers it.
        drop(store.get(std::slice::from_ref(&key)).await);
        assert_eq!(commit_when_back(&store, put(&other, "after")).await, Commit::Applied);
        assert!(began.elapsed() < Duration::from_secs(15), "{how:?}: {:?}", began.elapsed());
        let direct = store_of(&new).get(&[other]).await.unwrap();
        assert_eq!(direct[0].as_ref().unwrap().value, "after", "{how:?}: the new primary has it");
    }
}

#[tokio::test]
async fn t1_where_every_way_leads_to_a_replica_not_every_call_connects() {
    let server = RedisServer::start().unwrap();
    let store = store_of(&server);
    store.check().await.unwrap();
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let connections = || {
        let told = format!("{:?}", server.command(&["INFO", "stats"]).unwrap());
        let (_, rest) = told.split_once("total_connections_received:").unwrap();
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap()
    };
    let (before, began) = (connections(), Instant::now());
    for _ in 0..300 {
        assert_eq!(store.check().await.unwrap_err().code.as_deref(), Some("READONLY"));
    }
    // One connection for the repeated call itself, and one every half second.
    let allowed = 3 + u64::try_from(began.elapsed().as_millis()).unwrap() / 500;
    assert!(connections() - before <= allowed, "{} connections", connections() - before);
}

#[tokio::test]
async fn t1_a_text_is_answered_after_redis_was_demoted_while_old_connections_stayed_open() {
    let (old, new, wire) = replicated().await;
    let Backend::Servers { amqp, .. } = Backend::shared_servers() else { unreachable!("these are servers") };
    let house = House::open(Blueprint::new(Backend::Servers { amqp, redis: wire.url(old.url()) })).await;
    let customer = "+13035550111";
    house.text(customer, "hello").await;
    house.replies(customer, 1).await;
    fail_over(Failover::Demoted, &old, &new, &wire);
    house.text(customer, "and now?").await;
    house.replies(customer, 2).await;
    house.close(0).await;
}

#[tokio::test]
async fn versions_do_not_repeat_when_a_record_is_deleted_and_made_again() {
    let server = RedisServer::start().unwrap();
    let store = store_of(&server);
    let key = Key::new("scope", "name");
    let mut last = 0;
    for _ in 0..200 {
        let put = Write::put(key.clone(), Expect::Absent, "value", TTL);
        assert_eq!(store.commit(&[put]).await.unwrap(), Commit::Applied);
        let version = store.get(std::slice::from_ref(&key)).await.unwrap()[0].as_ref().unwrap().version;
        assert!(version > last, "{version} after {last}");
        last = version;
        let deleted = store.commit(&[Write::delete(key.clone(), Expect::Version(version))]).await.unwrap();
        assert_eq!(deleted, Commit::Applied);
    }
}
