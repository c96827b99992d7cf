//! `X-Twilio-Signature`: an HMAC over the URL that Twilio called and the form fields it posted.
//! <https://www.twilio.com/docs/usage/security#validating-requests>

use ::http::header::{HOST, HeaderMap};
use ::http::{HeaderValue, Method};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret as _, SecretString};
use secret::Secret;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::super::{Refusal, WebhookRequest};
use super::form::{Form, is_form};

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
    /// Accepts signatures made with any of `tokens` for any of `public_urls`. A URL may be spelled with or without its
    /// scheme's default port, as Twilio's libraries accept both too, and with its host in lower case.
    pub(super) fn new(tokens: &[Secret], public_urls: &[String]) -> Self {
        // An empty token would let every caller sign.
        let tokens = tokens.iter().filter(|token| !token.current().expose_secret().is_empty()).cloned().collect();
        let public_urls = public_urls.iter().flat_map(|url| spellings(url.trim_end_matches('/'))).collect();
        Self { tokens, public_urls }
    }

    /// Refuses headers that hold no signature, or none that is understood.
    pub(super) fn check_head(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        signature(headers)?;
        algorithm(headers).map(drop)
    }

    /// Checks the signature, in a time that does not reveal which token or URL came close.
    pub(super) fn verify(&self, request: &WebhookRequest<'_>) -> Result<(), Refusal> {
        let signature = signature(request.headers)?;
        let algorithm = algorithm(request.headers)?;
        let signed_body = signed_body(request)?;
        let as_called = self.public_urls.iter().filter_map(|url| spelled_as_called(url, request.headers));
        let as_called: Vec<String> = as_called.collect();
        let mut is_proven = false;
        for token in self.tokens.iter().map(Secret::current) {
            for public_url in self.public_urls.iter().chain(&as_called) {
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

/// The algorithm that the request names. An unknown one is refused, never replaced by a weaker one.
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

/// The part of the signed string after the URL: the fields of a form, whatever the content type, or nothing where the
/// signed query holds the body's hash. The body of a `GET` is not signed, and not read either.
fn signed_body(request: &WebhookRequest<'_>) -> Result<Vec<u8>, Refusal> {
    let is_hashed = body_is_hashed(request);
    let is_form = *request.method == Method::POST && (is_form(request) || is_hashed != Some(true));
    // Decoding makes nothing longer, but for bytes that are no UTF-8.
    let mut signed = Vec::with_capacity(request.body.len());
    let form = Form::decode(if is_form { request.body } else { &[] });
    for (name, value) in form.sorted() {
        signed.extend_from_slice(name.as_bytes());
        signed.extend_from_slice(value.as_bytes());
    }
    // The signature would prove the URL alone, for any body or method that adds no field.
    if signed.is_empty() && is_hashed == Some(false) {
        return Err(Refusal::Unproven("the body is not the one that was signed"));
    }
    Ok(signed)
}

/// Whether the query holds the hash of this body, which is posted, and of no other; `None` if it holds none.
/// <https://www.twilio.com/docs/usage/security#a-few-notes>, "JSON body": `bodySHA256` holds the body's hash in hex.
fn body_is_hashed(request: &WebhookRequest<'_>) -> Option<bool> {
    let query = Form::of_query(request.target);
    let Ok(expected) = query.get("bodySHA256") else { return Some(false) };
    let found = hex::encode(Sha256::digest(request.body));
    expected.map(|expected| *request.method == Method::POST && found.as_bytes().ct_eq(expected.as_bytes()).into())
}

/// `public_url` as it is, and with its scheme's own port added or taken away; the same in lower case, but for the path.
fn spellings(public_url: &str) -> Vec<String> {
    let (scheme, authority, path) = split(public_url);
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let own_port = if scheme.eq_ignore_ascii_case("http") { ":80" } else { ":443" };
    let mut all = vec![format!("{scheme}://{host_and_port}{path}")];
    if let Some(host) = host_and_port.strip_suffix(own_port) {
        all.push(format!("{scheme}://{host}{path}"));
    } else if name_of(host_and_port) == host_and_port {
        all.push(format!("{scheme}://{host_and_port}{own_port}{path}"));
    }
    for index in 0..all.len() {
        let (scheme, authority, _) = split(&all[index]);
        let lower = format!("{}://{}{path}", scheme.to_ascii_lowercase(), authority.to_ascii_lowercase());
        if !all.contains(&lower) {
            all.push(lower);
        }
    }
    all
}

/// `public_url` with the capitals that its host has in the request's `Host`, if they differ.
fn spelled_as_called(public_url: &str, headers: &HeaderMap) -> Option<String> {
    let (scheme, authority, path) = split(public_url);
    let called = name_of(headers.get(HOST)?.to_str().ok()?);
    let known = name_of(authority);
    let port = authority.strip_prefix(known)?;
    let differs = called != known && called.eq_ignore_ascii_case(known);
    differs.then(|| format!("{scheme}://{called}{port}{path}"))
}

/// Scheme, host with port, and path.
fn split(url: &str) -> (&str, &str, &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    (scheme, authority, path)
}

/// A host without its port. The colons within an IPv6 address begin no port.
fn name_of(authority: &str) -> &str {
    authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(authority, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t9_the_capitals_of_a_called_host_are_tried_and_no_other_host() {
        let spelled = |url, host: &'static str| {
            spelled_as_called(url, &HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]))
        };
        assert_eq!(spelled("https://a.example:443/p", "A.Example").as_deref(), Some("https://A.Example:443/p"));
        assert_eq!(spelled("https://a.example/p", "A.EXAMPLE:8080").as_deref(), Some("https://A.EXAMPLE/p"));
        for other in ["a.example", "b.example", "A.example.evil", "[::1]", ""] {
            assert_eq!(spelled("https://a.example/p", other), None, "{other}");
        }
    }

    #[test]
    fn the_schemes_own_port_is_tried_with_and_without() {
        let cases: [(&str, &[&str]); 7] = [
            ("https://a.example", &["https://a.example", "https://a.example:443"]),
            ("https://a.example:443/p", &["https://a.example:443/p", "https://a.example/p"]),
            ("https://a.example:8443", &["https://a.example:8443"]),
            ("http://a.example/p/q", &["http://a.example/p/q", "http://a.example:80/p/q"]),
            ("https://[::1]", &["https://[::1]", "https://[::1]:443"]),
            ("https://u:p@a.example", &["https://a.example", "https://a.example:443"]),
            (
                "HTTPS://A.example/Path",
                &[
                    "HTTPS://A.example/Path",
                    "HTTPS://A.example:443/Path",
                    "https://a.example/Path",
                    "https://a.example:443/Path",
                ],
            ),
        ];
        for (public_url, expected) in cases {
            assert_eq!(spellings(public_url), expected, "{public_url}");
        }
    }
}
