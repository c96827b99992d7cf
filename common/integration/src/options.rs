//! How an integration answers.

use std::time::Duration;

use providers::{ProviderSettings, UnknownOutcome};

/// An integration's options; see the configuration reference for each default.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Whether a customer may begin a conversation by texting.
    pub initiate_from_inbound: bool,
    /// The text that the customer gets when the assistant cannot be reached.
    pub failure_message: String,
    /// After this long without a text the assistant's session ends.
    pub session_timeout: Duration,
    /// Whether the customer is told that the session ended.
    pub notify_on_session_timeout: bool,
    /// Texts that arrive within this window of each other join into one turn; zero joins none.
    pub coalesce_window: Duration,
    /// A text older than this when its turn comes becomes a dead letter, as expired.
    pub reply_max_age: Duration,
    /// How many segments a number may send a second.
    pub rate_per_second: f64,
    /// Country calling codes that texts may come from; empty means all.
    pub allowed_country_codes: Vec<String>,
    /// Whether media is sent as MMS; otherwise its URL is sent.
    pub mms: bool,
    /// How many characters a part may have, 1 to 1600.
    pub max_part_chars: u16,
    /// What to do with a send whose outcome stays unknown.
    pub unknown_outcome: UnknownOutcome,
}

impl Options {
    /// The defaults for a provider: media is sent as MMS where the provider can, and an unknown outcome is handled as
    /// IntelePeer's section says unless the options say otherwise.
    #[must_use]
    pub fn for_provider(provider: &ProviderSettings) -> Self {
        let (mms, unknown_outcome) = match provider {
            ProviderSettings::Twilio(_) => (true, UnknownOutcome::default()),
            ProviderSettings::Intelepeer(settings) => (false, settings.unknown_outcome),
        };
        Self { mms, unknown_outcome, ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            initiate_from_inbound: true,
            failure_message: "We're sorry, but we can't respond to your message.".to_owned(),
            session_timeout: Duration::from_secs(3600),
            notify_on_session_timeout: false,
            coalesce_window: Duration::ZERO,
            reply_max_age: Duration::from_secs(6 * 3600),
            rate_per_second: 1.0,
            allowed_country_codes: Vec::new(),
            mms: true,
            max_part_chars: 1600,
            unknown_outcome: UnknownOutcome::default(),
        }
    }
}
