//! IntelePeer's requests to us: texts. The proof is the portal's Secret Input, in clear in every body: there is no
//! HMAC.

use std::collections::BTreeSet;

use ::http::StatusCode;
use message::{Address, Conversation, Inbound, Media, MessageText, Receipt};
use secrecy::ExposeSecret as _;
use secret::Secret;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::super::{Refusal, Webhook, WebhookRequest, message_name};
use super::IntelepeerSettings;
use super::body;

/// Reads what IntelePeer posts for one account.
#[derive(Debug)]
pub struct IntelepeerWebhook {
    secrets: Vec<Secret>,
}

impl IntelepeerWebhook {
    /// Accepts bodies that hold any of the account's secrets.
    #[must_use]
    pub fn new(settings: &IntelepeerSettings) -> Self {
        // An empty secret would let every caller in.
        let secrets = settings.account_secrets.iter().filter(|secret| !secret.current().expose_secret().is_empty());
        Self { secrets: secrets.cloned().collect() }
    }

    /// Whether `signature` is one of the secrets.
    fn compare(&self, signature: &str) -> Choice {
        // Hashes all have the same length, so the comparison does not reveal the secret's length.
        let found = Sha256::digest(signature.as_bytes());
        let compare = |secret: &Secret| found.ct_eq(&Sha256::digest(secret.current().expose_secret().as_bytes()));
        self.secrets.iter().map(compare).fold(Choice::from(0), |any, one| any | one)
    }
}

impl Webhook for IntelepeerWebhook {
    fn verify(&self, request: &WebhookRequest<'_>) -> Result<(), Refusal> {
        let body = body::text(request.body);
        let signatures = signatures(&body);
        if signatures.is_empty() {
            return Err(Refusal::Unproven("the signature is missing"));
        }
        let is_proven = signatures.iter().map(|one| self.compare(one)).fold(Choice::from(0), |any, one| any | one);
        if is_proven.into() { Ok(()) } else { Err(Refusal::Unproven("the signature is wrong")) }
    }

    fn read_message(&self, request: &WebhookRequest<'_>) -> Result<(Conversation, Inbound), Refusal> {
        let body = body::object(&body::text(request.body));
        let body = body.ok_or_else(|| Refusal::Unreadable("the body is no JSON object".to_owned()))?;
        let conversation = Conversation::new(address(&body, "from")?, address(&body, "to")?);
        let media = media(&body);
        let text = match (
            text(&body, "message").or_else(|refusal| text(&body, "text").map_err(|_| refusal)),
            media.is_empty(),
        ) {
            (Ok(text), _) => MessageText::from(text),
            (Err(_), false) => MessageText::default(),
            (Err(refusal), true) => return Err(refusal),
        };
        let refid = text_of(&body, "refid")?;
        let is_usual = |name: &str| name.len() <= 128 && name.bytes().all(|b| b.is_ascii_graphic());
        let provider_message_id = message_name(&refid, is_usual);
        Ok((conversation, Inbound { provider_message_id, text, media, joined: Vec::new() }))
    }

    fn read_receipt(&self, _request: &WebhookRequest<'_>) -> Result<Option<(Conversation, Receipt)>, Refusal> {
        Err(Refusal::Unreadable("IntelePeer sends no receipts".to_owned()))
    }

    fn transcript(&self, request: &WebhookRequest<'_>) -> String {
        let body = body::text(request.body);
        // The secret may be spelled in several ways, and stand in other places too.
        let spelled = body::strings(&body, "signature").into_iter().map(|(raw, _)| raw).chain(signatures(&body));
        let secrets: BTreeSet<String> = spelled.filter(|one| !one.is_empty()).collect();
        secrets.iter().rev().fold(body, |masked, secret| masked.replace(secret, "***"))
    }

    fn accepted(&self) -> StatusCode {
        StatusCode::OK
    }
}

/// The signatures in a body: the field of its JSON object, and each string that is written like that field, in case the
/// body is not JSON.
fn signatures(body: &str) -> Vec<String> {
    let of_object = body::object(body).and_then(|object| Some(object.get("signature")?.as_str()?.to_owned()));
    of_object.into_iter().chain(body::strings(body, "signature").into_iter().map(|(_, value)| value)).collect()
}

/// The field `name` as text; numbers and booleans are written as text.
fn text(body: &Map<String, Value>, name: &str) -> Result<String, Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Err(Refusal::Unreadable(format!("the field {name} is missing"))),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        Some(_) => Err(Refusal::Unreadable(format!("the field {name} is no text"))),
    }
}

/// The field `name`, which must not be empty.
fn text_of(body: &Map<String, Value>, name: &str) -> Result<String, Refusal> {
    let text = text(body, name)?;
    if text.is_empty() { Err(Refusal::Unreadable(format!("the field {name} is empty"))) } else { Ok(text) }
}

fn address(body: &Map<String, Value>, name: &str) -> Result<Address, Refusal> {
    let text = text_of(body, name)?;
    Address::parse(&text).map_err(|_| Refusal::Unreadable(format!("the field {name} is no address")))
}

/// The media of a body. Its form is not documented: links, or objects with links as in a send, are read under both
/// names that were seen. An item without a link cannot be fetched and is left out.
fn media(body: &Map<String, Value>) -> Vec<Media> {
    let lists = ["media", "mediaurls"].into_iter().filter_map(|name| body.get(name));
    lists
        .flat_map(|list| list.as_array().map_or(std::slice::from_ref(list), Vec::as_slice))
        .filter_map(medium)
        .collect()
}

fn medium(item: &Value) -> Option<Media> {
    let link = item.as_str().or_else(|| item.get("link")?.as_str()).filter(|link| !link.is_empty())?;
    let content_type = item.get("content-type").and_then(Value::as_str).map(str::to_owned);
    Some(Media { url: link.to_owned(), content_type })
}

#[cfg(test)]
mod tests {
    use ::http::{HeaderMap, Method};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::UnknownOutcome;
    use crate::intelepeer::IntelepeerAuth;

    fn webhook(secrets: &[&str]) -> IntelepeerWebhook {
        IntelepeerWebhook::new(&IntelepeerSettings {
            account_secrets: secrets.iter().copied().map(Secret::from).collect(),
            auth: IntelepeerAuth::Token(Secret::from("t")),
            base_url: String::new(),
            login_url: String::new(),
            unknown_outcome: UnknownOutcome::Resend,
        })
    }

    fn with_body<T>(body: &[u8], read: impl FnOnce(&WebhookRequest<'_>) -> T) -> T {
        read(&WebhookRequest {
            method: &Method::POST,
            target: "/webhooks/a/messages",
            headers: &HeaderMap::new(),
            body,
        })
    }

    fn verify(secrets: &[&str], body: &Value) -> Result<(), Refusal> {
        with_body(body.to_string().as_bytes(), |request| webhook(secrets).verify(request))
    }

    /// A whole body with `changes` made; null takes a field away.
    fn message(changes: &Value) -> Result<(Conversation, Inbound), Refusal> {
        let mut body =
            json!({"refid": "R1", "from": "+13035550199", "to": "1-12345", "message": "Hi", "signature": "s"});
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        with_body(body.to_string().as_bytes(), |request| webhook(&["s"]).read_message(request))
    }

    #[test]
    fn any_of_the_secrets_proves_a_body() {
        for secret in ["new", "old"] {
            assert_eq!(verify(&["new", "old"], &json!({"signature": secret})), Ok(()));
        }
    }

    #[test]
    fn a_wrong_or_missing_signature_proves_nothing() {
        for signature in [json!("ne"), json!("newer"), json!(""), json!(null), json!(1), json!(["new"])] {
            let verdict = verify(&["new", "old"], &json!({"signature": signature}));
            assert!(matches!(verdict, Err(Refusal::Unproven(_))), "{signature}: {verdict:?}");
        }
        assert!(matches!(verify(&["new"], &json!({})), Err(Refusal::Unproven(_))));
        for secrets in [&[][..], &[""]] {
            assert!(matches!(verify(secrets, &json!({"signature": ""})), Err(Refusal::Unproven(_))), "{secrets:?}");
        }
    }

    #[test]
    fn what_holds_no_proof_proves_nothing_and_a_broken_body_may_hold_one() {
        for body in [&b""[..], b"null", b"[]", b"\"new\"", b"{", b"signature=new", b"\xff", b"{\"signature\":\"ne\""] {
            let verdict = with_body(body, |request| webhook(&["new"]).verify(request));
            assert!(matches!(verdict, Err(Refusal::Unproven(_))), "{body:?}: {verdict:?}");
        }
        for body in [&b"{\"signature\":\"new\",\"message\":\"cut"[..], b"[{ \"signature\" : \"n\\u0065w\" }]"] {
            with_body(body, |request| {
                assert_eq!(webhook(&["new"]).verify(request), Ok(()), "{body:?}");
                assert!(matches!(webhook(&["new"]).read_message(request), Err(Refusal::Unreadable(_))));
                assert!(webhook(&["new"]).transcript(request).contains("***"));
                assert!(!webhook(&["new"]).transcript(request).contains("new"));
            });
        }
    }

    #[test]
    fn a_text_is_read() {
        let (conversation, inbound) = message(&json!({"unknown": {}})).unwrap();
        assert_eq!(conversation.customer.expose(), "+13035550199");
        assert_eq!(conversation.ours.expose(), "1-12345");
        assert_eq!((inbound.provider_message_id.as_str(), inbound.text.expose()), ("R1", "Hi"));
        let (_, inbound) = message(&json!({"message": null, "text": "Ho"})).unwrap();
        assert_eq!(inbound.text.expose(), "Ho");
        assert_eq!(message(&json!({"message": ""})).unwrap().1.text.expose(), "");
    }

    #[test]
    fn media_may_be_links_or_objects_and_come_without_words() {
        let changes = json!({"message": null, "media": ["https://a/1", {"link": "https://a/2", "content-type": "image/png"}], "mediaurls": ["https://a/3"]});
        let (_, inbound) = message(&changes).unwrap();
        let media: Vec<_> = inbound.media.iter().map(|m| (m.url.as_str(), m.content_type.as_deref())).collect();
        assert_eq!(media, [("https://a/1", None), ("https://a/2", Some("image/png")), ("https://a/3", None)]);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_its_value_is_not() {
        let cases = [
            ("refid", json!(null)),
            ("refid", json!("")),
            ("from", json!(null)),
            ("to", json!({"number": "secretvalue"})),
            ("message", json!(null)),
            ("message", json!(["secretvalue"])),
        ];
        for (name, value) in cases {
            let Err(Refusal::Unreadable(why)) = message(&json!({name: value})) else {
                panic!("{name}={value} was read")
            };
            assert!(why.contains(name) && !why.contains("secretvalue"), "{name}={value}: {why}");
        }
    }

    #[test]
    fn t2_what_is_odd_beside_the_words_costs_no_words() {
        for (name, value) in [
            ("media", json!("no link")),
            ("media", json!([{"data": "x"}, 7])),
            ("mediaurls", json!([""])),
            ("mediaurls", json!({})),
            ("refid", json!("a b\n")),
            ("refid", json!(7)),
            ("from", json!(13_035_550_199_u64)),
        ] {
            let (conversation, inbound) = message(&json!({name: value})).unwrap();
            assert_eq!(
                (conversation.customer.expose(), inbound.text.expose()),
                ("+13035550199", "Hi"),
                "{name}={value}"
            );
            assert!(inbound.provider_message_id.bytes().all(|b| b.is_ascii_graphic()), "{inbound:?}");
        }
    }

    #[test]
    fn there_are_no_receipts() {
        let refusal = with_body(b"{}", |request| webhook(&["s"]).read_receipt(request)).unwrap_err();
        assert_eq!(refusal, Refusal::Unreadable("IntelePeer sends no receipts".to_owned()));
    }

    proptest! {
        #[test]
        fn nothing_that_arrives_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            with_body(&body, |request| {
                prop_assert!(webhook(&["secret"]).verify(request).is_err());
                prop_assert!(webhook(&["secret"]).read_message(request).is_err());
                Ok(())
            })?;
        }

        #[test]
        fn no_field_makes_it_panic_and_no_word_is_lost(
            name in "(refid|from|to|text|media|mediaurls|signature)", value in ".*", is_list in any::<bool>(), words in ".*",
        ) {
            let value = if is_list { json!([value, {"link": value}]) } else { json!(value) };
            if let Ok((_, inbound)) = message(&json!({name: value, "message": words})) {
                prop_assert_eq!(inbound.text.expose(), words);
            }
        }
    }
}
