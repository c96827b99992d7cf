//! IntelePeer's SMS API v4: login, send, status, and webhooks that carry the shared code in every body.

mod account;
mod api;
mod inbound;
mod send;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

pub use account::{IntelepeerAccount, TokenForm};
pub(crate) use inbound::deliver;
pub(crate) use tokens::Tokens;

use crate::world::{World, fresh_hex};

/// All routes below `/_rest/v4/`.
pub(crate) fn routes() -> Router<Arc<World>> {
    Router::new()
        .route("/_rest/v4/authenticate", post(tokens::login))
        .route("/_rest/v4/app/sms/send", post(send::send))
        .route("/_rest/v4/app/sms/mdr", get(api::status).post(api::status))
        .route("/_rest/v4/my/did/sms/webhook", post(api::set_webhook))
}

/// An id of the documented form: `SM` and 30 more characters.
pub(crate) fn fresh_refid() -> String {
    let hex = fresh_hex().to_ascii_uppercase();
    format!("SM{}", hex.get(..30).unwrap_or_default())
}
