//! The phone page: one HTML file with a phone for texting, and the picture that the built-in dialogue sends.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::world::fresh_hex;

const PAGE: &str = include_str!("page.html");
const PICTURE: &str = include_str!("picture.svg");

/// The page. Only its own script and style may run; pictures may come from any host.
pub(super) async fn page() -> Response {
    let nonce = fresh_hex();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src * data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, PAGE.replace("{{nonce}}", &nonce)).into_response()
}

/// A drawing for texts with a picture.
pub(super) async fn picture() -> Response {
    ([(header::CONTENT_TYPE, "image/svg+xml")], PICTURE).into_response()
}
