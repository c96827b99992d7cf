//! watsonx Assistant v2: sessions and turns on both path styles, and the token services that its clients use.
//! See <https://cloud.ibm.com/apidocs/assistant-v2>.

mod auth;
mod context;
mod dialogue;
mod handle;
mod input;
mod instance;
mod message;
mod refusal;
mod session;
mod state;
mod tokens;

use std::sync::Arc;

use axum::response::Response;
use axum::routing::{delete, post};
use axum::{Router, middleware};
use http::{HeaderName, HeaderValue};

pub use handle::{Answer, AssistantHandle, Turn};
pub use instance::WatsonxInstance;
pub(crate) use state::Assistant;

use crate::world::{World, fresh_hex};

/// All routes of the assistant, with and without an instance in front, and of the token services.
pub(crate) fn routes() -> Router<Arc<World>> {
    Router::new()
        .merge(runtime())
        .nest("/instances/{instance}", runtime())
        .nest("/assistant/{release}/instances/{instance}/api", runtime())
        .route("/identity/token", post(tokens::iam))
        .route("/v1/authorize", post(tokens::cloud_pak))
        .layer(middleware::map_response(mark))
}

/// The paths of SDK 11 and those of the releases before.
fn runtime() -> Router<Arc<World>> {
    let of = |base: &str| {
        Router::new()
            .route(&format!("{base}/sessions"), post(session::create))
            .route(&format!("{base}/sessions/{{session}}"), delete(session::delete))
            .route(&format!("{base}/sessions/{{session}}/message"), post(message::stateful))
            .route(&format!("{base}/message"), post(message::stateless))
    };
    of("/v2/assistants/{assistant}").merge(of("/v2/assistants/{assistant}/environments/{environment}"))
}

/// Every answer carries an id by which IBM's support finds it.
async fn mark(mut answer: Response) -> Response {
    if let Ok(id) = HeaderValue::from_str(&fresh_hex()) {
        answer.headers_mut().insert(HeaderName::from_static("x-global-transaction-id"), id);
    }
    answer
}
