//! The deliveries that a subscription hands out, and how they are settled.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lapin::options::BasicAckOptions;
use lapin::types::DeliveryTag;
use lapin::{Acker, Channel};
use message::failpoint::{Step, reach};
use message::failure::Failure;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::publish::Publisher;
use crate::{Delivery, Outgoing, Settler, Subscription};

/// How long sending an acknowledgement may take.
const ACK_DEADLINE: Duration = Duration::from_secs(5);

/// A delivery as it came off a channel.
pub(super) struct Taken {
    pub(super) payload: Bytes,
    pub(super) redeliveries: u32,
    pub(super) settler: Settle,
}

/// The caller's end of a subscription; a task at the other end consumes.
pub(super) struct RabbitSubscription {
    pub(super) deliveries: mpsc::UnboundedReceiver<Taken>,
    /// Dropping it stops the task, which closes the channel.
    pub(super) stop: DropGuard,
    pub(super) task: JoinHandle<()>,
}

#[async_trait]
impl Subscription for RabbitSubscription {
    async fn next(&mut self) -> Delivery {
        while let Some(Taken { payload, redeliveries, settler }) = self.deliveries.recv().await {
            // A delivery of a lost channel is back in its queue, and comes again to this worker or another.
            if settler.is_ours() {
                return Delivery { payload, redeliveries, settler: Box::new(settler) };
            }
        }
        std::future::pending().await
    }

    async fn close(self: Box<Self>) {
        drop(self.stop);
        drop(self.deliveries);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a consumer did not end by itself");
        }
    }
}

/// Publishes, then acknowledges on the delivery's own channel.
pub(super) struct Settle {
    /// Knows whether the channel is still open.
    pub(super) acker: Acker,
    /// The delivery's own channel, and the tag that identifies it there.
    pub(super) channel: Arc<Channel>,
    pub(super) tag: DeliveryTag,
    pub(super) publisher: Arc<Publisher>,
    /// Cancelled when the channel ends; cancelling it ends the channel.
    pub(super) ended: CancellationToken,
}

#[async_trait]
impl Settler for Settle {
    fn is_ours(&self) -> bool {
        self.acker.usable()
    }

    async fn settle(&self, effects: &[Outgoing]) -> Result<(), Failure> {
        if !effects.is_empty() {
            self.publisher.publish(effects).await?;
            reach(Step::Published);
        }
        // A late acknowledgement is not a failure: the message is handed out again. lapin's `Acker` is not used: it
        // starts a task for each acknowledgement, and never answers one that it took just when its connection ended.
        // For the same reason the wait ends when the channel does.
        let acknowledging = timeout(ACK_DEADLINE, self.channel.basic_ack(self.tag, BasicAckOptions::default()));
        match self.ended.run_until_cancelled(acknowledging).await {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(_))) | None => tracing::debug!("a delivery was no longer ours when it was settled"),
            Some(Err(_)) => self.ended.cancel(),
        }
        Ok(())
    }
}
