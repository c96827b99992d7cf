//! Twilio's requests to us: texts and status callbacks.
//! <https://www.twilio.com/docs/messaging/guides/webhook-request>

use ::http::{HeaderMap, StatusCode};
use message::{Address, Conversation, Inbound, Media, MessageId, MessageText, Receipt, ReceiptState};

use super::super::{Refusal, Webhook, WebhookRequest, message_name};
use super::TwilioSettings;
use super::form::Form;
use super::signature::Verifier;

/// The address in place of one that a receipt does not name.
const UNKNOWN_END: &str = "unknown";

/// <https://www.twilio.com/docs/messaging/guides/webhook-request#media-related-parameters>
const MOST_MEDIA: usize = 10;

/// Reads what Twilio posts for one account.
#[derive(Debug)]
pub struct TwilioWebhook {
    account_sid: String,
    verifier: Verifier,
}

impl TwilioWebhook {
    /// Accepts requests signed with any of the account's tokens for any of `public_urls`
    /// (`scheme://host[:port][/path]`), which must be spelled as in Twilio's console.
    #[must_use]
    pub fn new(settings: &TwilioSettings, public_urls: &[String]) -> Self {
        Self { account_sid: settings.account_sid.clone(), verifier: Verifier::new(&settings.auth_tokens, public_urls) }
    }

    /// The fields of a request that names our account, or none.
    fn fields<'a>(&self, request: &WebhookRequest<'a>) -> Result<Form<'a>, Refusal> {
        let form = Form::of_request(request);
        let mut accounts = form.all("AccountSid").filter(|sid| !sid.is_empty()).peekable();
        if accounts.peek().is_some() && accounts.all(|sid| sid != self.account_sid) {
            return Err(Refusal::Unproven("the field AccountSid names another account"));
        }
        drop(accounts);
        Ok(form)
    }
}

impl Webhook for TwilioWebhook {
    fn check_head(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        self.verifier.check_head(headers)
    }

    fn verify(&self, request: &WebhookRequest<'_>) -> Result<(), Refusal> {
        self.verifier.verify(request)
    }

    fn read_message(&self, request: &WebhookRequest<'_>) -> Result<(Conversation, Inbound), Refusal> {
        let form = self.fields(request)?;
        let conversation = Conversation::new(number(&form, "From")?, number(&form, "To")?);
        let inbound = Inbound {
            provider_message_id: message_name(message_sid(&form)?, is_name),
            text: MessageText::from(form.get("Body")?.unwrap_or_default()),
            media: media(&form),
            joined: Vec::new(),
        };
        if inbound.media.is_empty() && inbound.text.expose().is_empty() && announces_media(&form) {
            return Err(Refusal::Unreadable("it has no words, and the field MediaUrl0 is missing".to_owned()));
        }
        Ok((conversation, inbound))
    }

    fn read_receipt(&self, request: &WebhookRequest<'_>) -> Result<Option<(Conversation, Receipt)>, Refusal> {
        let form = self.fields(request)?;
        let part = Form::of_query(request.target).get("part").ok().flatten().and_then(MessageId::parse);
        let field = |name| form.get(name).ok().flatten().filter(|value| !value.is_empty());
        // A receipt that names a part proves that Twilio accepted the part, also with an unknown status.
        let told = field("MessageStatus").or_else(|| field("SmsStatus")).and_then(state);
        let Some(state) = told.or(part.map(|_| ReceiptState::Queued)) else {
            return form.require("MessageStatus").map(|_| None);
        };
        let provider_message_id = message_sid(&form).map(|sid| message_name(sid, is_name))?;
        let code = field("ErrorCode").filter(|code| is_name(code)).map(str::to_owned);
        let receipt = Receipt { provider_message_id, part, state, code };
        Ok(ends_of_receipt(&form).map(|conversation| (conversation, receipt)))
    }

    fn accepted(&self) -> StatusCode {
        // Twilio may read a body as TwiML, or as a text for the customer.
        StatusCode::NO_CONTENT
    }
}

fn number(form: &Form<'_>, name: &str) -> Result<Address, Refusal> {
    let text = form.require(name)?;
    Address::parse(text).map_err(|_| Refusal::Unreadable(format!("the field {name} is no address")))
}

/// The conversation that a receipt names. It reports on a text from us to the customer, so `To` is the customer and
/// `From` is us. A messaging service may tell its sender late or in another spelling. That does no harm: a receipt is
/// kept by its part.
fn ends_of_receipt(form: &Form<'_>) -> Option<Conversation> {
    let end = |name| number(form, name).or_else(|_| Address::parse(UNKNOWN_END)).ok();
    Some(Conversation::new(end("To")?, end("From")?))
}

fn message_sid<'f>(form: &'f Form<'_>) -> Result<&'f str, Refusal> {
    // All three fields hold the same id.
    let named = |name| form.get(name).ok().flatten().filter(|sid| !sid.is_empty());
    let sid = named("MessageSid").or_else(|| named("SmsMessageSid")).or_else(|| named("SmsSid"));
    sid.map_or_else(|| form.require("MessageSid"), Ok)
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// The media that can be fetched; `NumMedia` adds nothing to that.
fn media(form: &Form<'_>) -> Vec<Media> {
    let field = |name: String| form.get(&name).ok().flatten().filter(|text| !text.is_empty());
    let medium = |index| {
        let url = field(format!("MediaUrl{index}"))?.to_owned();
        Some(Media { url, content_type: field(format!("MediaContentType{index}")).map(str::to_owned) })
    };
    (0..MOST_MEDIA).filter_map(medium).collect()
}

fn announces_media(form: &Form<'_>) -> bool {
    form.all("NumMedia").any(|count| !matches!(count, "" | "0"))
}

/// <https://www.twilio.com/docs/messaging/api/message-resource#message-status-values>; `None` for an unknown status.
fn state(status: &str) -> Option<ReceiptState> {
    Some(match status {
        "accepted" | "scheduled" | "queued" | "sending" => ReceiptState::Queued,
        "sent" => ReceiptState::Sent,
        "delivered" => ReceiptState::Delivered,
        "undelivered" | "failed" | "canceled" => ReceiptState::Failed,
        "read" => ReceiptState::Read,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use ::http::header::CONTENT_TYPE;
    use ::http::{HeaderName, HeaderValue, Method};
    use proptest::prelude::*;
    use secret::Secret;

    use super::*;

    const BASE: &[(&str, &str)] = &[
        ("AccountSid", "AC0123456789abcdef0123456789abcdef"),
        ("MessageSid", "SM1"),
        ("From", "+13035550199"),
        ("To", "+17205550100"),
    ];

    fn webhook() -> TwilioWebhook {
        let settings = TwilioSettings {
            account_sid: "AC0123456789abcdef0123456789abcdef".to_owned(),
            auth_tokens: vec![Secret::from("token")],
            base_url: String::new(),
            api_key: None,
            messaging_service_sid: None,
        };
        TwilioWebhook::new(&settings, &["https://sms.example.com".to_owned()])
    }

    /// The base fields, changed: an empty value takes the field away.
    fn form(changes: &[(&str, &str)]) -> String {
        let kept = BASE.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        let added = changes.iter().filter(|(_, value)| !value.is_empty());
        form_urlencoded::Serializer::new(String::new()).extend_pairs(kept.chain(added)).finish()
    }

    fn with_request<T>(target: &str, body: &str, read: impl FnOnce(&WebhookRequest<'_>) -> T) -> T {
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded; charset=UTF-8");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, form_type)]);
        read(&WebhookRequest { method: &Method::POST, target, headers: &headers, body: body.as_bytes() })
    }

    fn message(changes: &[(&str, &str)]) -> Result<(Conversation, Inbound), Refusal> {
        with_request("/webhooks/a/messages", &form(changes), |request| webhook().read_message(request))
    }

    fn receipt(target: &str, changes: &[(&str, &str)]) -> Result<Option<(Conversation, Receipt)>, Refusal> {
        with_request(target, &form(changes), |request| webhook().read_receipt(request))
    }

    #[test]
    fn a_text_is_read_with_its_media() {
        let (conversation, inbound) = message(&[
            ("Body", " Grüße 👍🏽\n"),
            ("NumMedia", "2"),
            ("MediaUrl0", "https://api.example/1"),
            ("MediaContentType0", "image/png"),
            ("MediaUrl1", "https://api.example/2"),
        ])
        .unwrap();
        assert_eq!(conversation.customer.expose(), "+13035550199");
        assert_eq!(conversation.ours.expose(), "+17205550100");
        assert_eq!(inbound.provider_message_id, "SM1");
        assert_eq!(inbound.text.expose(), " Grüße 👍🏽\n");
        let media: Vec<_> = inbound.media.iter().map(|m| (m.url.as_str(), m.content_type.as_deref())).collect();
        assert_eq!(media, [("https://api.example/1", Some("image/png")), ("https://api.example/2", None)]);
    }

    #[test]
    fn a_text_may_be_empty_or_very_long() {
        assert_eq!(message(&[]).unwrap().1.text.expose(), "");
        let long = "x".repeat(100_000);
        assert_eq!(message(&[("Body", &long)]).unwrap().1.text.expose(), long);
    }

    #[test]
    fn the_old_name_of_the_sid_is_understood() {
        let (_, inbound) = message(&[("MessageSid", ""), ("SmsMessageSid", "SM2")]).unwrap();
        assert_eq!(inbound.provider_message_id, "SM2");
    }

    #[test]
    fn what_cannot_be_read_is_named_and_its_value_is_not() {
        let cases = [("From", ""), ("From", " "), ("To", ""), ("MessageSid", "")];
        for (name, value) in cases {
            let Err(Refusal::Unreadable(why)) = message(&[(name, value)]) else { panic!("{name}={value} was read") };
            assert!(why.contains(name), "{name}: {why}");
        }
        let other = message(&[("AccountSid", "ACsecretvalue")]);
        assert!(matches!(other, Err(Refusal::Unproven(why)) if why.contains("AccountSid")), "{other:?}");
    }

    #[test]
    fn t2_a_broken_picture_costs_no_words() {
        for count in ["1", "many", "-1", "4000000000"] {
            let (_, inbound) = message(&[("Body", "Hi"), ("NumMedia", count)]).unwrap();
            assert_eq!((inbound.text.expose(), inbound.media.len()), ("Hi", 0), "{count}");
            let refusal = message(&[("Body", ""), ("NumMedia", count)]).unwrap_err();
            assert!(matches!(refusal, Refusal::Unreadable(_)), "{count}: nothing came");
        }
        let second = [("Body", "Hi"), ("NumMedia", "x"), ("MediaUrl1", "https://api.example/2")];
        assert_eq!(message(&second).unwrap().1.media[0].url, "https://api.example/2");
    }

    #[test]
    fn t2_an_odd_name_of_a_message_is_replaced_by_one_that_may_be_shown() {
        let name = |sid: &str| message(&[("MessageSid", sid)]).unwrap().1.provider_message_id;
        assert_eq!(name("SM1"), "SM1");
        let odd = ["../?", "a\n\u{0}", &"x".repeat(65)].map(name);
        assert!(odd.iter().all(|name| name.len() == 71 && name.starts_with("sha256:")), "{odd:?}");
        assert_eq!(odd[0], name("../?"));
        assert_ne!(odd[0], odd[1]);
    }

    #[test]
    fn a_field_with_several_values_is_unreadable_because_the_signature_does_not_bind_the_order() {
        let mut body = form(&[]);
        write!(body, "&From=%2B13035550198").unwrap();
        let refusal = with_request("/", &body, |request| webhook().read_message(request)).unwrap_err();
        assert_eq!(refusal, Refusal::Unreadable("the field From has several values".to_owned()));
        let again = form(&[]) + "&From=%2B13035550199";
        assert!(with_request("/", &again, |request| webhook().read_message(request)).is_ok(), "it is the same");
    }

    #[test]
    fn a_get_request_is_read_from_its_query() {
        let target = format!("/webhooks/a/messages?{}", form(&[("Body", "Hi+there")]));
        let request = WebhookRequest { method: &Method::GET, target: &target, headers: &HeaderMap::new(), body: b"" };
        assert_eq!(webhook().read_message(&request).unwrap().1.text.expose(), "Hi+there");
    }

    #[test]
    fn receipts_move_from_status_to_state_and_swap_the_ends() {
        let part = MessageId::parse("5f0c3d1e-58a1-5b0e-9d3f-2f6f4a8f1c11").unwrap();
        let target = format!("/webhooks/a/status?part={part}");
        let cases = [
            ("accepted", ReceiptState::Queued),
            ("scheduled", ReceiptState::Queued),
            ("queued", ReceiptState::Queued),
            ("sending", ReceiptState::Queued),
            ("sent", ReceiptState::Sent),
            ("delivered", ReceiptState::Delivered),
            ("undelivered", ReceiptState::Failed),
            ("failed", ReceiptState::Failed),
            ("canceled", ReceiptState::Failed),
            ("read", ReceiptState::Read),
        ];
        for (status, state) in cases {
            let changes =
                [("From", "+17205550100"), ("To", "+13035550199"), ("MessageStatus", status), ("ErrorCode", "30007")];
            let (conversation, receipt) = receipt(&target, &changes).unwrap().unwrap();
            assert_eq!(conversation.customer.expose(), "+13035550199");
            assert_eq!(conversation.ours.expose(), "+17205550100");
            let code = Some("30007".to_owned());
            let expected = Receipt { provider_message_id: "SM1".to_owned(), part: Some(part), state, code };
            assert_eq!(receipt, expected, "{status}");
        }
        for changes in [[("MessageStatus", "partially_delivered")].as_slice(), &[]] {
            let says_nothing = matches!(receipt("/s", changes), Ok(None) | Err(Refusal::Unreadable(_)));
            assert!(says_nothing, "{changes:?}");
            let (_, receipt) = receipt(&target, changes).unwrap().unwrap();
            assert_eq!(
                (receipt.part, receipt.state),
                (Some(part), ReceiptState::Queued),
                "but that Twilio took the part"
            );
        }
    }

    #[test]
    fn t4_a_receipt_is_read_whatever_its_ends_are() {
        let part = MessageId::parse("5f0c3d1e-58a1-5b0e-9d3f-2f6f4a8f1c11").unwrap();
        let target = format!("/webhooks/a/status?part={part}");
        let ends =
            ["+12125550177", "", "12125550100", "rcs:brand_agent", "WHATSAPP:+1 212 555 0100", "AT&T", "?", "\u{0}"];
        for from in ends {
            for to in ends {
                let changes = [("From", from), ("To", to), ("MessageStatus", "sent")];
                let (_, receipt) = receipt(&target, &changes).unwrap().unwrap();
                assert_eq!((receipt.part, receipt.state), (Some(part), ReceiptState::Sent), "{from} {to}");
            }
        }
        let mut body = form(&[("MessageStatus", "sent")]);
        body.push_str("&From=%2B13035550198&To=x");
        let read = with_request(&target, &body, |request| webhook().read_receipt(request)).unwrap();
        assert_eq!(read.unwrap().1.part, Some(part), "a field that came twice");
    }

    #[test]
    fn a_receipt_for_no_known_part_is_still_read() {
        for target in ["/s", "/s?part=", "/s?part=nonsense"] {
            let (_, receipt) = receipt(target, &[("MessageStatus", "sent")]).unwrap().unwrap();
            assert_eq!((receipt.part, receipt.code), (None, None), "{target}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_arrives_makes_it_panic(
            is_post in any::<bool>(),
            target in ".*",
            names in proptest::collection::vec("(content-type|x-twilio-signature|x-twilio-webhooks-signature-settings)", 0..4),
            value in proptest::collection::vec(any::<u8>(), 0..40),
            is_form in any::<bool>(),
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut headers = HeaderMap::new();
            for name in names {
                let value = HeaderValue::from_bytes(&value).unwrap_or(HeaderValue::from_static("AAAA"));
                headers.append(HeaderName::try_from(name).unwrap(), value);
            }
            if is_form {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            }
            let method = if is_post { Method::POST } else { Method::GET };
            let request = WebhookRequest { method: &method, target: &target, headers: &headers, body: &body };
            prop_assert!(webhook().verify(&request).is_err());
            prop_assert!(webhook().read_message(&request).is_err());
            prop_assert!(webhook().read_receipt(&request).is_err());
        }

        #[test]
        fn no_field_makes_it_panic_and_no_word_is_lost(
            name in "(From|To|MessageSid|NumMedia|MediaUrl0|MessageStatus|ErrorCode)", value in ".*", words in ".*", part in ".*",
        ) {
            let part: String = form_urlencoded::byte_serialize(part.as_bytes()).collect();
            drop(receipt(&format!("/s?part={part}"), &[("MessageStatus", "sent"), (&name, &value)]));
            if let Ok((_, inbound)) = message(&[("Body", &words), (&name, &value)]) {
                prop_assert_eq!(inbound.text.expose(), words);
            }
        }
    }
}
