//! Customers who texted STOP. Twilio then refuses to send to them, and still calls the webhook.
//! See <https://help.twilio.com/articles/223134027>.

use std::collections::HashSet;
use std::sync::Mutex;

use crate::world::lock;

const STOP: [&str; 8] = ["STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"];
const START: [&str; 3] = ["START", "YES", "UNSTOP"];

/// Pairs of customer and number between which sending is refused. Twilio's own confirmation text is not simulated, so
/// that a test can demand that no text follows a STOP.
#[derive(Debug, Default)]
pub(crate) struct OptOuts(Mutex<HashSet<(String, String)>>);

impl OptOuts {
    /// Blocks or unblocks a pair. Returns whether that changed anything.
    pub(crate) fn set(&self, customer: &str, number: &str, out: bool) -> bool {
        let pair = (customer.to_owned(), number.to_owned());
        let mut pairs = lock(&self.0);
        if out { pairs.insert(pair) } else { pairs.remove(&pair) }
    }

    pub(crate) fn contains(&self, customer: &str, number: &str) -> bool {
        lock(&self.0).contains(&(customer.to_owned(), number.to_owned()))
    }

    /// Applies an opt-out keyword if the whole text is one. Returns whether that changed anything.
    pub(crate) fn hear(&self, customer: &str, number: &str, text: &str) -> bool {
        let word = text.trim().to_ascii_uppercase();
        let stop = STOP.contains(&word.as_str());
        (stop || START.contains(&word.as_str())) && self.set(customer, number, stop)
    }

    pub(crate) fn list(&self) -> Vec<(String, String)> {
        lock(&self.0).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_keyword_counts_and_only_for_its_pair() {
        let outs = OptOuts::default();
        assert!(!outs.hear("+14155550101", "+12125550100", "please stop"));
        assert!(!outs.contains("+14155550101", "+12125550100"));
        assert!(outs.hear("+14155550101", "+12125550100", " Stop "));
        assert!(outs.contains("+14155550101", "+12125550100"));
        assert!(!outs.contains("+14155550101", "+12125550199"));
        assert!(outs.hear("+14155550101", "+12125550100", "unstop"));
        assert!(!outs.contains("+14155550101", "+12125550100"));
    }
}
