//! The newest texts. The time to find one by its id does not depend on their number.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use super::message::{Direction, Message, MessageState};

/// The newest `keep` texts, oldest first.
#[derive(Debug)]
pub(crate) struct Texts {
    list: VecDeque<Message>,
    /// Running numbers by id. A text's index in `list` is its running number less `forgotten`.
    numbers: HashMap<String, usize>,
    /// Running numbers of the replies to each customer, so that waiting for a reply stays cheap while other customers
    /// text.
    replies: HashMap<String, VecDeque<usize>>,
    forgotten: usize,
    keep: usize,
}

impl Texts {
    pub(crate) fn new(keep: usize) -> Self {
        Self {
            list: VecDeque::new(),
            numbers: HashMap::new(),
            replies: HashMap::new(),
            forgotten: 0,
            keep: keep.max(1),
        }
    }

    /// Appends a text. Returns false and changes nothing when the id is already known.
    pub(crate) fn add(&mut self, message: Message) -> bool {
        if self.numbers.contains_key(&message.sid) {
            return false;
        }
        let number = self.forgotten + self.list.len();
        self.numbers.insert(message.sid.clone(), number);
        if message.direction == Direction::Outbound {
            self.replies.entry(message.to.clone()).or_default().push_back(number);
        }
        self.list.push_back(message);
        while self.list.len() > self.keep {
            self.forget_oldest();
        }
        true
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.list.pop_front() else { return };
        self.numbers.remove(&oldest.sid);
        self.forgotten += 1;
        if oldest.direction == Direction::Inbound {
            return;
        }
        if let Entry::Occupied(mut replies) = self.replies.entry(oldest.to) {
            replies.get_mut().pop_front();
            if replies.get().is_empty() {
                replies.remove();
            }
        }
    }

    /// The replies to a customer, oldest first.
    pub(crate) fn replies(&self, customer: &str) -> impl Iterator<Item = &Message> {
        let numbers = self.replies.get(customer).into_iter().flatten();
        numbers.filter_map(|number| self.list.get(number.checked_sub(self.forgotten)?))
    }

    pub(crate) fn find(&self, sid: &str) -> Option<&Message> {
        self.list.get(self.numbers.get(sid)?.checked_sub(self.forgotten)?)
    }

    /// Moves a text to a later state; returns whether that changed it.
    pub(crate) fn advance(&mut self, sid: &str, state: MessageState, error_code: Option<u32>) -> bool {
        let place = self.numbers.get(sid).and_then(|number| number.checked_sub(self.forgotten));
        let Some(message) = place.and_then(|place| self.list.get_mut(place)) else { return false };
        if message.state >= state {
            return false;
        }
        message.state = state;
        message.error_code = error_code;
        message.sent_at = message.sent_at.or_else(|| Some(crate::clock::now()));
        true
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Message> {
        self.list.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Service;

    fn text(sid: &str) -> Message {
        Message::new(Service::Twilio, Direction::Outbound, sid.to_owned(), "+12125550100", "+14155550101", "hi")
    }

    #[test]
    fn only_the_newest_are_kept_and_found() {
        let mut texts = Texts::new(2);
        for sid in ["a", "b", "c"] {
            assert!(texts.add(text(sid)));
        }
        assert!(texts.find("a").is_none());
        assert_eq!(texts.replies("+14155550101").map(|m| m.sid.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(texts.replies("+14155550102").count(), 0);
        assert_eq!(texts.find("b").map(|m| m.sid.as_str()), Some("b"));
        assert!(texts.advance("c", MessageState::Sent, None));
        assert_eq!(texts.find("c").map(|m| m.state), Some(MessageState::Sent));
    }

    #[test]
    fn a_text_goes_forward_never_back() {
        let mut texts = Texts::new(2);
        assert!(texts.add(text("a")));
        assert!(texts.advance("a", MessageState::Delivered, None));
        assert!(!texts.advance("a", MessageState::Sent, None));
        assert_eq!(texts.find("a").map(|m| m.state), Some(MessageState::Delivered));
    }

    #[test]
    fn a_known_id_is_not_listed_twice() {
        let mut texts = Texts::new(2);
        assert!(texts.add(text("a")));
        assert!(!texts.add(text("a")));
        assert_eq!(texts.iter().count(), 1);
    }
}
