//! `GET /_simulator/events`: the journal's events as Server-Sent Events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures_util::{Stream, stream};
use tokio::sync::broadcast::error::RecvError;

use crate::journal::Event;
use crate::world::World;

pub(super) async fn events(State(world): State<Arc<World>>) -> Sse<impl Stream<Item = Result<Sent, Infallible>>> {
    let events = stream::unfold(world.journal.events(), |mut events| async move {
        let event = match events.recv().await {
            Ok(event) => event,
            // The state contains the events that were missed.
            Err(RecvError::Lagged(_)) => Event::Changed,
            Err(RecvError::Closed) => return None,
        };
        let sent = Sent::default().json_data(event).unwrap_or_default();
        Some((Ok(sent), events))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}
