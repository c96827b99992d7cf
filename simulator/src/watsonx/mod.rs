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

use axum::Router;
use axum::routing::{delete, post};

pub use handle::{Answer, AssistantHandle, Turn};
pub use instance::WatsonxInstance;
pub(crate) use state::Assistant;

use crate::world::World;

/// All routes of the assistant, with and without an instance in front, and of the token services.
pub(crate) fn routes() -> Router<Arc<World>> {
    Router::new()
        .merge(runtime())
        .nest("/instances/{instance}", runtime())
        .nest("/assistant/{release}/instances/{instance}/api", runtime())
        .route("/identity/token", post(tokens::iam))
        .route("/v1/authorize", post(tokens::cloud_pak))
}

/// The paths of SDK 11, and those of the releases before it.
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
