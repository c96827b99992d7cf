//! Closes connections and channels in so many words. What is dropped alone stays open for as long as RabbitMQ owes an answer
//! on it, and may be handed messages that nothing takes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use lapin::{Channel, Connection};
use tokio::time::timeout;

use super::routes::lock;

/// How long a connection may take to close. A queue that hangs holds that up.
const CLOSED_WITHIN: Duration = Duration::from_millis(500);
/// How long a channel or a connection that was only tried may take to close.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The connection that is used now.
pub(super) type Current = Mutex<Option<Arc<Connection>>>;

/// Closes `connection` in so many words: one on which an answer is still owed would otherwise stay open, and be counted
/// among those who live with the number once the answer comes.
pub(super) async fn close(connection: &Connection) {
    let _closed = timeout(CLOSED_WITHIN, connection.close(200, "done".into())).await;
}

/// Closes what was the connection. Dropped alone it would stay open for as long as RabbitMQ owes an answer on it, with
/// consumers that nothing reads.
pub(super) async fn close_current(current: &Current) {
    let connection = lock(current).take();
    if let Some(connection) = connection.filter(|connection| connection.status().connected()) {
        close(&connection).await;
    }
}

/// Closes what a consumer was being opened on, when that is not waited for any more: RabbitMQ may hand out messages to it
/// that nothing takes.
pub(super) struct CloseOnDrop(Option<BoxFuture<'static, ()>>);

impl CloseOnDrop {
    pub(super) fn channel(channel: Channel) -> Self {
        Self(Some(Box::pin(async move {
            drop(timeout(CLOSE_TIMEOUT, channel.close(200, "done".into())).await);
        })))
    }

    pub(super) fn connection(connection: Arc<Connection>) -> Self {
        Self(Some(Box::pin(async move {
            drop(timeout(CLOSE_TIMEOUT, connection.close(200, "done".into())).await);
        })))
    }

    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let (Some(close), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(close);
        }
    }
}
