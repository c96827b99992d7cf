//! A broker that breaks its promises on purpose, so that the fault suite can show that its judge would notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use broker::{Broker, Delivery, Depths, Outgoing, Settler, Stage, Standing, Subscription};
use message::failpoint::{Sabotage, is_broken};
use message::failure::Failure;
use tokio::time::timeout;

/// One publish in this many is dropped.
const DROPPED: u32 = 10;
/// How long a delivery waits for another to change places with.
const COMPANY: Duration = Duration::from_secs(1);

/// `inner`, broken as ordered.
pub(crate) fn broker(inner: Arc<dyn Broker>) -> Arc<dyn Broker> {
    let broken = [Sabotage::DropConfirm, Sabotage::AckEarly, Sabotage::Shuffle];
    if broken.into_iter().any(is_broken) { Arc::new(Broken { inner, published: AtomicU32::new(0) }) } else { inner }
}

#[derive(Debug)]
struct Broken {
    inner: Arc<dyn Broker>,
    published: AtomicU32,
}

#[async_trait]
impl Broker for Broken {
    async fn publish(&self, messages: &[Outgoing]) -> Result<(), Failure> {
        let count = self.published.fetch_add(1, Ordering::Relaxed) + 1;
        if is_broken(Sabotage::DropConfirm) && count.is_multiple_of(DROPPED) {
            return Ok(());
        }
        self.inner.publish(messages).await
    }

    fn subscribe(&self, stage: Stage, prefetch: u16) -> Box<dyn Subscription> {
        let inner = self.inner.subscribe(stage, prefetch);
        Box::new(BrokenSubscription { inner, broker: Arc::clone(&self.inner), overtaken: None })
    }

    fn partitions(&self, stage: Stage) -> u16 {
        self.inner.partitions(stage)
    }

    fn standing(&self, stage: Stage) -> Option<Standing> {
        self.inner.standing(stage)
    }

    async fn depths(&self) -> Result<Depths, Failure> {
        self.inner.depths().await
    }

    async fn check(&self) -> Result<(), Failure> {
        self.inner.check().await
    }
}

struct BrokenSubscription {
    inner: Box<dyn Subscription>,
    broker: Arc<dyn Broker>,
    /// Handed out after the delivery behind it.
    overtaken: Option<Delivery>,
}

#[async_trait]
impl Subscription for BrokenSubscription {
    async fn next(&mut self) -> Delivery {
        if is_broken(Sabotage::Shuffle) {
            if self.overtaken.is_none() {
                self.overtaken = Some(self.inner.next().await);
            }
            let behind = timeout(COMPANY, self.inner.next()).await.ok();
            // The one behind first, if there is one; then the one that waited.
            if let Some(delivery) = behind.or_else(|| self.overtaken.take()) {
                return delivery;
            }
        }
        let delivery = self.inner.next().await;
        if is_broken(Sabotage::AckEarly) {
            // If this fails, the delivery stays queued: the fault is then not injected.
            drop(delivery.settle(&[]).await);
            let settler = Box::new(Late(Arc::clone(&self.broker)));
            return Delivery { settler, ..delivery };
        }
        delivery
    }

    async fn close(self: Box<Self>) {
        self.inner.close().await;
    }
}

/// Settles a delivery that was taken off its queue before: it only publishes the effects.
struct Late(Arc<dyn Broker>);

#[async_trait]
impl Settler for Late {
    async fn settle(&self, effects: &[Outgoing]) -> Result<(), Failure> {
        if effects.is_empty() { Ok(()) } else { self.0.publish(effects).await }
    }
}
