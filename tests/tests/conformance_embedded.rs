//! The embedded adapters pass both conformance suites, in memory and on a file.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use broker::Broker;
use broker::dead_letters::DeadLetters;
use embedded::EmbeddedBroker;
use embedded::{Database, EmbeddedStore};
use message::clock::Clock;
use store::Store;
use tempfile::TempDir;
use tests::conformance::broker::BrokerFixture;
use tests::conformance::dead_letters::DeadLettersFixture;
use tests::conformance::store::StoreFixture;

/// One process opens the file, so all connections are clones of one broker or share one database.
struct Embedded {
    open: Mutex<Option<(Database, EmbeddedBroker)>>,
    dir: Option<TempDir>,
}

impl Embedded {
    fn in_memory() -> Self {
        Self { open: Mutex::new(Some(with_broker(Database::in_memory().unwrap()))), dir: None }
    }

    fn on_file() -> Self {
        let dir = TempDir::new().unwrap();
        let database = Database::open(dir.path()).unwrap();
        Self { open: Mutex::new(Some(with_broker(database))), dir: Some(dir) }
    }

    fn restart(&self) {
        let Some(dir) = &self.dir else { return };
        let mut open = self.open.lock().unwrap();
        // Only one broker can have the file open, so the old one is dropped first.
        open.take();
        *open = Some(with_broker(Database::open(dir.path()).unwrap()));
    }

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::new(self.open.lock().unwrap().as_ref().unwrap().1.clone())
    }

    fn store(&self) -> Arc<dyn Store> {
        let database = self.open.lock().unwrap().as_ref().unwrap().0.clone();
        Arc::new(EmbeddedStore::new(database, Clock::system()))
    }
}

fn with_broker(database: Database) -> (Database, EmbeddedBroker) {
    let broker = EmbeddedBroker::new(database.clone(), Clock::system());
    (database, broker)
}

#[async_trait]
impl BrokerFixture for Embedded {
    async fn connect(&self) -> Arc<dyn Broker> {
        self.broker()
    }

    async fn reopen(&self) -> Arc<dyn Broker> {
        self.restart();
        self.broker()
    }

    fn most_held(&self, _: u16) -> usize {
        32
    }
}

#[async_trait]
impl StoreFixture for Embedded {
    async fn connect(&self) -> Arc<dyn Store> {
        self.store()
    }

    async fn reopen(&self) -> Arc<dyn Store> {
        self.restart();
        self.store()
    }
}

/// Workers own the file. Operators open it at the same time.
struct WithOperators {
    dir: TempDir,
    broker: EmbeddedBroker,
}

impl WithOperators {
    fn fresh() -> Self {
        let dir = TempDir::new().unwrap();
        let (_, broker) = with_broker(Database::open(dir.path()).unwrap());
        Self { dir, broker }
    }
}

#[async_trait]
impl DeadLettersFixture for WithOperators {
    async fn broker(&self) -> Arc<dyn Broker> {
        Arc::new(self.broker.clone())
    }

    async fn operator(&self) -> Arc<dyn DeadLetters> {
        let beside = Database::open_beside(self.dir.path()).unwrap();
        Arc::new(EmbeddedBroker::new(beside, Clock::system()))
    }

    fn is_exclusive(&self) -> bool {
        false
    }
}

mod dead_letters_beside {
    tests::dead_letters_suite!(super::WithOperators::fresh());
}

mod broker_in_memory {
    tests::broker_suite!(super::Embedded::in_memory());
}

mod broker_on_file {
    tests::broker_suite!(super::Embedded::on_file());
}

mod store_in_memory {
    tests::store_suite!(super::Embedded::in_memory());
}

mod store_on_file {
    tests::store_suite!(super::Embedded::on_file());
}
