//! Limits the failed attempts that an envelope keeps. Attempts that fail for another reason than throttling are few,
//! because they are counted; a throttled number is tried again until the reply is too old.

use super::{Attempt, Envelope};
use crate::clock::Timestamp;
use crate::failure::{Failure, FailureKind};

/// How many attempts are kept since the last replay: some 50 KiB. A part that was throttled every few seconds for hours
/// would otherwise become too large to be read.
const MOST: usize = 256;

impl Envelope {
    /// Adds a failed attempt. When there are 256 since the last replay, it replaces the oldest throttled one, but never
    /// the very first.
    pub fn record_attempt(&mut self, at: Timestamp, failure: &Failure) {
        let since_replay = self.attempts_since_replay().len();
        if since_replay >= MOST {
            let second = self.attempts.len() - since_replay + 1;
            let is_throttled = |attempt: &Attempt| attempt.kind == FailureKind::Throttled;
            let oldest = self.attempts.iter().skip(second).position(is_throttled);
            oldest.map(|oldest| self.attempts.remove(second + oldest));
        }
        self.attempts.push(Attempt { at, kind: failure.kind, code: failure.code.clone(), what: failure.to_string() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, Body, Conversation, Inbound, IntegrationId, MessageId, SCHEMA};

    fn envelope() -> Envelope {
        let integration = IntegrationId::parse("support").unwrap();
        let phone = |text: &str| Address::parse(text).unwrap();
        let provider_message_id = "SM1".to_owned();
        Envelope {
            schema: SCHEMA,
            id: MessageId::of_provider(&integration, &provider_message_id),
            integration,
            conversation: Conversation::new(phone("+13035550142"), phone("+17205550100")),
            accepted_at: Timestamp::UNIX_EPOCH,
            attempts: Vec::new(),
            replays: Vec::new(),
            trace: String::new(),
            body: Body::Inbound(Inbound {
                provider_message_id,
                text: "hello".into(),
                media: Vec::new(),
                joined: Vec::new(),
            }),
        }
    }

    #[test]
    fn g8_a_message_that_is_throttled_for_hours_stays_small_and_keeps_what_counts() {
        let mut envelope = envelope();
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let throttled = || Failure::new(FailureKind::Throttled, "too many requests").with_code("429");
        for second in 0..10_000 {
            let failure = if second == 5 { Failure::transient("no answer") } else { throttled() };
            envelope.record_attempt(at(second), &failure);
        }
        assert!(envelope.encode().len() < 64 * 1024, "{} bytes", envelope.encode().len());
        let kept: Vec<Timestamp> = envelope.attempts.iter().map(|attempt| attempt.at).collect();
        assert!(kept.is_sorted() && [0, 5, 9_999].map(at).iter().all(|at| kept.contains(at)), "{kept:?}");

        envelope.replay(at(10_000), "somebody", "expired");
        for second in 10_000..11_000 {
            envelope.record_attempt(at(second), &throttled());
        }
        assert_eq!(envelope.attempts_since_replay().len(), MOST);
        assert_eq!(envelope.attempts[..kept.len()].iter().map(|attempt| attempt.at).collect::<Vec<_>>(), kept);
    }
}
