//! Webhooks as Twilio posts them: all usual parameters, a signature, and a message id of their own.

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use secrecy::SecretString;

/// The integration that is texted.
pub(crate) const INTEGRATION: &str = "bench";
/// The Twilio account of the integration.
pub(crate) const ACCOUNT_SID: &str = "ACbe9c0000000000000000000000000000";
/// The token that signs the webhooks.
pub(crate) const AUTH_TOKEN: &str = "bench-twilio-token";
/// The number of our numbers, which are texted in turn. There are many because one number may send at most 1,000
/// segments a second.
pub(crate) const NUMBERS: u64 = 100;
/// The number of customers, who text in turn.
pub(crate) const CONVERSATIONS: u64 = 10_000;

/// Makes webhooks.
#[derive(Debug)]
pub(crate) struct Webhooks {
    url: String,
    host: String,
    path: String,
    token: SecretString,
    batch: u64,
}

impl Webhooks {
    /// Webhooks for the ingress that is known as `public_url`. `batch` makes their message ids unique.
    pub(crate) fn new(public_url: &str, batch: u64) -> Self {
        let path = format!("/webhooks/{INTEGRATION}/messages");
        let host = public_url.trim_start_matches("http://").to_owned();
        Self { url: format!("{public_url}{path}"), host, path, token: AUTH_TOKEN.into(), batch }
    }

    /// The customer who sends the text `number`.
    pub(crate) fn customer(number: u64) -> String {
        format!("+1415{}", 2_000_000 + number % CONVERSATIONS)
    }

    /// Our number that gets the text `number`; always the same number for one customer.
    fn ours(number: u64) -> String {
        format!("+1212{}", 5_550_100 + number % CONVERSATIONS % NUMBERS)
    }

    /// The number of the text that `customer` sent, among the first [`CONVERSATIONS`] texts.
    pub(crate) fn number_of(customer: &str) -> Option<u64> {
        customer.strip_prefix("+1415")?.parse::<u64>().ok()?.checked_sub(2_000_000)
    }

    /// The webhook of the text `number` in this batch.
    ///
    /// # Errors
    /// When the request would not be valid.
    pub(crate) fn request(&self, number: u64) -> anyhow::Result<Request<Full<Bytes>>> {
        let form =
            parameters(&format!("SM{:016x}{number:016x}", self.batch), &Self::customer(number), &Self::ours(number));
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&form).finish();
        let request = Request::post(&self.path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=UTF-8")
            .header(header::USER_AGENT, "TwilioProxy/1.1")
            .header(header::ACCEPT, "*/*")
            .header("I-Twilio-Idempotency-Token", format!("{:016x}-{number:016x}", self.batch))
            .header("X-Twilio-Signature", simulator::twilio::sign(&self.token, &self.url, &form));
        Ok(request.body(Full::new(body.into()))?)
    }
}

/// The parameters of <https://www.twilio.com/docs/messaging/guides/webhook-request>.
fn parameters(sid: &str, customer: &str, ours: &str) -> Vec<(String, String)> {
    [
        ("ToCountry", "US"),
        ("ToState", "NY"),
        ("SmsMessageSid", sid),
        ("NumMedia", "0"),
        ("ToCity", "NEW YORK"),
        ("FromZip", "94103"),
        ("SmsSid", sid),
        ("FromState", "CA"),
        ("SmsStatus", "received"),
        ("FromCity", "SAN FRANCISCO"),
        ("Body", "Hello, when is your branch in Market Street open on Saturday?"),
        ("FromCountry", "US"),
        ("To", ours),
        ("ToZip", ""),
        ("NumSegments", "1"),
        ("MessageSid", sid),
        ("AccountSid", ACCOUNT_SID),
        ("From", customer),
        ("ApiVersion", "2010-04-01"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}
