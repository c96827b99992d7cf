//! Addresses on a channel other than SMS: `whatsapp:+12125550100`, `rcs:brand_agent`.
//! <https://www.twilio.com/docs/messaging/channels>

const CHANNELS: [&str; 3] = ["messenger", "rcs", "whatsapp"];

/// The channel of an address; `None` for SMS.
pub(super) fn of(address: &str) -> Option<&str> {
    split(address).map(|(channel, _)| channel)
}

/// The number of an address, on a channel or not.
pub(super) fn number_of(address: &str) -> &str {
    split(address).map_or(address, |(_, number)| number)
}

/// Whether an address is an RCS sender, which is not a number.
pub(super) fn is_agent(address: &str) -> bool {
    split(address).is_some_and(|(channel, name)| channel == "rcs" && !name.starts_with('+'))
}

fn split(address: &str) -> Option<(&str, &str)> {
    address.split_once(':').filter(|(channel, rest)| CHANNELS.contains(channel) && !rest.is_empty())
}
