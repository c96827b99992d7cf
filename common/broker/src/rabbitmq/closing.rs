//! Closes connections and channels explicitly. One that is only dropped stays open for as long as RabbitMQ owes an
//! answer on it, and may be handed messages that no task reads.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use lapin::{Channel, Connection};
use tokio::time::timeout;

use super::routes::lock;

/// How long a connection may take to close. A hanging queue delays that.
const CLOSED_WITHIN: Duration = Duration::from_millis(500);
/// How long a channel, or a connection that was only tried, may take to close.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The connection in use.
pub(super) type Current = Mutex<Option<Arc<Connection>>>;

/// Closes `connection` explicitly. If RabbitMQ still owes an answer on it, it would otherwise stay open, and count as a
/// user of the partition count once the answer comes.
pub(super) async fn close(connection: &Connection) {
    let _closed = timeout(CLOSED_WITHIN, connection.close(200, "done".into())).await;
}

/// Closes the connection in use, if there is one. If it were only dropped, it would stay open for as long as RabbitMQ
/// owes an answer on it, with consumers that no task reads.
pub(super) async fn close_current(current: &Current) {
    let connection = lock(current).take();
    if let Some(connection) = connection.filter(|connection| connection.status().connected()) {
        close(&connection).await;
    }
}

/// Closes the channel or connection on which a consumer was being opened, if the opening is abandoned: RabbitMQ may
/// hand messages to a consumer that no task reads.
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
