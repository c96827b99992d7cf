//! Twilio Programmable Messaging: the REST API, signed webhooks and delivery receipts.
//! See <https://www.twilio.com/docs/messaging/api/message-resource>.

mod account;
mod channel;
mod create;
mod inbound;
mod list;
mod numbers;
mod opt_out;
mod quirks;
mod receipts;
mod refusal;
mod resource;
mod signature;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use secrecy::{ExposeSecret as _, SecretString};

pub use account::{ApiKey, MessagingService, TwilioAccount};
pub(crate) use inbound::{deliver, read};
pub(crate) use opt_out::OptOuts;
pub use quirks::{CallbackFrom, TwilioQuirks};
pub(crate) use receipts::follow;
use refusal::Refusal;
pub use signature::sign;

use crate::world::World;

/// All routes below `/2010-04-01/`.
pub(crate) fn routes() -> Router<Arc<World>> {
    Router::new()
        .route("/2010-04-01/Accounts/{account}", get(account::fetch))
        .route("/2010-04-01/Accounts/{account}/Messages.json", post(create::create).get(list::list))
        .route("/2010-04-01/Accounts/{account}/Messages/{sid}", get(list::fetch))
        .route("/2010-04-01/Accounts/{account}/IncomingPhoneNumbers.json", get(numbers::list))
        .route("/2010-04-01/Accounts/{account}/IncomingPhoneNumbers/{sid}", get(numbers::fetch).post(numbers::update))
        .route("/2010-04-01/{*rest}", get(unknown).post(unknown).put(unknown).delete(unknown))
}

async fn unknown(uri: http::Uri) -> Refusal {
    Refusal::not_found(uri.path())
}

/// Checks HTTP Basic credentials, the account's or those of one of its API keys, and that the path names that account.
fn authorize(world: &World, headers: &HeaderMap, account: &str, path: &str) -> Result<(), Refusal> {
    let (user, password) = basic(headers).ok_or_else(Refusal::unauthenticated)?;
    let known = &world.config.twilio;
    if !known.admits(&user, password.expose_secret()) {
        return Err(Refusal::unauthenticated());
    }
    if account != known.account_sid { Err(Refusal::not_found(path)) } else { Ok(()) }
}

/// The user and password of an `Authorization: Basic` header.
pub(crate) fn basic(headers: &HeaderMap) -> Option<(String, SecretString)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    scheme.eq_ignore_ascii_case("basic").then(|| (user.to_owned(), SecretString::from(password)))
}
