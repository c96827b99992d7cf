//! `X-Twilio-Signature`: an HMAC over the URL that Twilio called and the form fields it posted.
//! <https://www.twilio.com/docs/usage/security#validating-requests>

use ::http::header::HeaderMap;
use ::http::{HeaderValue, Method};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret as _, SecretString};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::super::{Refusal, WebhookRequest};
use super::form::{Form, is_form};
use crate::secret::Secret;

const SIGNATURE: &str = "x-twilio-signature";
/// Sent with keys made for webhooks: `key=…,algorithm=HMAC_SHA256`.
const SETTINGS: &str = "x-twilio-webhooks-signature-settings";

#[derive(Debug, Clone, Copy)]
enum Algorithm {
    HmacSha1,
    HmacSha256,
}

/// What a signature is checked against.
#[derive(Debug, Clone)]
pub(super) struct Verifier {
    tokens: Vec<Secret>,
    public_urls: Vec<String>,
}

impl Verifier {
    /// Believes any of `tokens` over requests to `public_url`, spelled with or without its scheme's own port:
    /// Twilio's libraries accept both too.
    pub(super) fn new(tokens: &[Secret], public_url: &str) -> Self {
        // An empty token would let everybody sign.
        let tokens = tokens.iter().filter(|token| !token.current().expose_secret().is_empty()).cloned().collect();
        Self { tokens, public_urls: spellings(public_url.trim_end_matches('/')) }
    }

    /// Checks the signature, in a time that tells nothing of which token or URL came close.
    pub(super) fn verify(&self, request: &WebhookRequest<'_>) -> Result<(), Refusal> {
        let signature = signature(request.headers)?;
        let algorithm = algorithm(request.headers)?;
        let signed_body = signed_body(request);
        let mut is_proven = false;
        for token in self.tokens.iter().map(Secret::current) {
            for public_url in &self.public_urls {
                let message = [public_url.as_bytes(), request.target.as_bytes(), &signed_body];
                is_proven |= match algorithm {
                    Algorithm::HmacSha1 => matches::<Hmac<Sha1>>(&token, &message, &signature),
                    Algorithm::HmacSha256 => matches::<Hmac<Sha256>>(&token, &message, &signature),
                };
            }
        }
        if is_proven { Ok(()) } else { Err(Refusal::Unproven("the signature is wrong")) }
    }
}

fn matches<M: Mac + KeyInit>(token: &SecretString, message: &[&[u8]], signature: &[u8]) -> bool {
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(token.expose_secret().as_bytes()) else { return false };
    for part in message {
        mac.update(part);
    }
    mac.verify_slice(signature).is_ok()
}

fn signature(headers: &HeaderMap) -> Result<Vec<u8>, Refusal> {
    let value = only(headers, SIGNATURE)?.ok_or(Refusal::Unproven("the signature is missing"))?;
    STANDARD.decode(value.as_bytes()).map_err(|_| Refusal::Unproven("the signature is not base64"))
}

/// What the request asks to be checked with; an unknown wish is refused, never answered with something weaker.
fn algorithm(headers: &HeaderMap) -> Result<Algorithm, Refusal> {
    const UNKNOWN: Refusal = Refusal::Unproven("the signature's algorithm is unknown");
    let Some(settings) = only(headers, SETTINGS)? else { return Ok(Algorithm::HmacSha1) };
    let settings = settings.to_str().map_err(|_| UNKNOWN)?;
    let fields = settings.split(',').filter_map(|field| field.trim().split_once('='));
    let mut wishes = fields.filter(|(name, _)| name.eq_ignore_ascii_case("algorithm")).map(|(_, value)| value);
    match (wishes.next(), wishes.next()) {
        (Some("HMAC_SHA1"), None) => Ok(Algorithm::HmacSha1),
        (Some("HMAC_SHA256"), None) => Ok(Algorithm::HmacSha256),
        _ => Err(UNKNOWN),
    }
}

fn only<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Refusal::Unproven("a signature header is repeated")),
    }
}

/// What follows the URL in the signed string: the fields of a form, whatever type the body is said to have, or nothing
/// where the signed query holds the body's hash. The body of a `GET` is not signed, and not read either.
fn signed_body(request: &WebhookRequest<'_>) -> Vec<u8> {
    let is_post = *request.method == Method::POST;
    if !is_post || (!is_form(request) && body_is_hashed(request)) {
        return Vec::new();
    }
    // Decoding makes nothing longer, but for bytes that are no UTF-8.
    let mut signed = Vec::with_capacity(request.body.len());
    for (name, value) in Form::decode(request.body).sorted() {
        signed.extend_from_slice(name.as_bytes());
        signed.extend_from_slice(value.as_bytes());
    }
    signed
}

/// <https://www.twilio.com/docs/usage/security#a-few-notes>, "JSON body": `bodySHA256` holds the body's hash in hex.
fn body_is_hashed(request: &WebhookRequest<'_>) -> bool {
    let Ok(Some(expected)) = Form::of_query(request.target).get("bodySHA256").map(|hash| hash.map(str::to_owned))
    else {
        return false;
    };
    let found = hex::encode(Sha256::digest(request.body));
    found.as_bytes().ct_eq(expected.as_bytes()).into()
}

/// `public_url` as it is, and with its scheme's own port added or taken away.
fn spellings(public_url: &str) -> Vec<String> {
    let (scheme, rest) = public_url.split_once("://").unwrap_or(("https", public_url));
    let (authority, prefix) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let own_port = if scheme.eq_ignore_ascii_case("http") { ":80" } else { ":443" };
    // The colons within an IPv6 address name no port.
    let has_port = host_and_port.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    let spell = |authority: &str| format!("{scheme}://{authority}{prefix}");
    let mut all = vec![spell(host_and_port)];
    if let Some(host) = host_and_port.strip_suffix(own_port) {
        all.push(spell(host));
    } else if !has_port {
        all.push(spell(&format!("{host_and_port}{own_port}")));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemes_own_port_is_tried_with_and_without() {
        let cases: [(&str, &[&str]); 6] = [
            ("https://a.example", &["https://a.example", "https://a.example:443"]),
            ("https://a.example:443/p", &["https://a.example:443/p", "https://a.example/p"]),
            ("https://a.example:8443", &["https://a.example:8443"]),
            ("http://a.example/p/q", &["http://a.example/p/q", "http://a.example:80/p/q"]),
            ("https://[::1]", &["https://[::1]", "https://[::1]:443"]),
            ("https://u:p@a.example", &["https://a.example", "https://a.example:443"]),
        ];
        for (public_url, expected) in cases {
            assert_eq!(spellings(public_url), expected, "{public_url}");
        }
    }
}
