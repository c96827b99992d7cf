//! The form fields of a Twilio webhook, decoded but never trimmed: the signature covers every blank.

use std::borrow::Cow;

use ::http::Method;
use ::http::header::CONTENT_TYPE;

use super::super::{Refusal, WebhookRequest};

/// Decoded fields in the order of arrival, names repeated as they came.
pub(super) struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Form<'a> {
    /// The fields that `text`, a form body or a query, spells.
    pub(super) fn decode(text: &'a [u8]) -> Self {
        Self(form_urlencoded::parse(text).collect())
    }

    /// The fields of a message or receipt: of the query with `GET`, else of the body, whatever its content type.
    pub(super) fn of_request(request: &WebhookRequest<'a>) -> Self {
        if *request.method == Method::GET { Self::of_query(request.target) } else { Self::decode(request.body) }
    }

    /// The fields of a request target's query.
    pub(super) fn of_query(target: &'a str) -> Self {
        Self::decode(target.split_once('?').map_or("", |(_, query)| query).as_bytes())
    }

    /// All fields as the signature takes them: sorted by name, then value, exact duplicates dropped.
    pub(super) fn sorted(mut self) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
        self.0.sort_unstable();
        self.0.dedup();
        self.0
    }

    /// Every value of the field `name`.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| &**value)
    }

    /// The field `name`, if it is there. One that came with several values is refused: the signature does not bind
    /// their order.
    pub(super) fn get(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let first = self.all(name).next();
        if self.all(name).any(|value| Some(value) != first) {
            return Err(Refusal::Unreadable(format!("the field {name} has several values")));
        }
        Ok(first)
    }

    /// The field `name`, which must be there and not be empty.
    pub(super) fn require(&self, name: &str) -> Result<&str, Refusal> {
        let value = self.get(name)?.filter(|value| !value.is_empty());
        value.ok_or_else(|| Refusal::Unreadable(format!("the field {name} is missing")))
    }
}

/// Whether the body is an URL-encoded form.
pub(super) fn is_form(request: &WebhookRequest<'_>) -> bool {
    let content_type = request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}
