//! A webhook of ours that records its requests and gives prepared answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;

/// A request to the webhook.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap().to_str().unwrap()
    }
}

type Answers = VecDeque<(u16, &'static str, &'static str)>;

#[derive(Clone, Default)]
pub(crate) struct Webhook {
    got: Arc<Mutex<Vec<Got>>>,
    answers: Arc<Mutex<Answers>>,
    address: String,
}

impl Webhook {
    /// Answers with these statuses, content types and bodies in turn, then with 204.
    pub(crate) async fn start(answers: &[(u16, &'static str, &'static str)]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let webhook = Self { answers: Arc::new(Mutex::new(answers.to_vec().into())), address, ..Self::default() };
        let app = axum::Router::new().fallback(keep).with_state(webhook.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        webhook
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

async fn keep(State(webhook): State<Webhook>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    webhook.got.lock().unwrap().push(Got {
        method: parts.method.to_string(),
        uri: parts.uri.to_string(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    let (status, kind, body) = webhook.answers.lock().unwrap().pop_front().unwrap_or((204, "", ""));
    let mut answer = (http::StatusCode::from_u16(status).unwrap(), body).into_response();
    answer.headers_mut().remove("content-type");
    if !kind.is_empty() {
        answer.headers_mut().insert("content-type", kind.parse().unwrap());
    }
    answer
}
