//! The texts of many conversations, and the judge of their replies.

use std::time::Duration;

use simulator::Answer;

use crate::house::{House, text_until_accepted};

/// Numbered texts of many conversations.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// The number of customers.
    pub conversations: usize,
    /// The number of texts of each customer, numbered 0, 1, 2, …
    pub turns: usize,
    /// The pause between two texts of a customer.
    pub gap: Duration,
}

impl Traffic {
    /// The phone number of the `conversation`th customer.
    #[must_use]
    pub fn customer(conversation: usize) -> String {
        format!("+1303555{:04}", 4000 + conversation)
    }

    /// Makes the assistant answer each text with its own words.
    pub fn echo(house: &House) {
        house.simulator.assistant().answer_with(|turn| Answer::text(turn.text.clone()));
    }

    /// Sends all texts, each until it is accepted.
    ///
    /// # Panics
    /// When a text is not accepted in time.
    pub fn text(self, house: &House) -> impl Future<Output = ()> + Send + use<> {
        let (phone, ours) = (house.simulator.phone(), house.number.clone());
        let conversation = move |number: usize| {
            let (phone, ours) = (phone.clone(), ours.clone());
            async move {
                for turn in 0..self.turns {
                    text_until_accepted(&phone, &ours, &Self::customer(number), &turn.to_string()).await;
                    tokio::time::sleep(self.gap).await;
                }
            }
        };
        async move {
            futures_util::future::join_all((0..self.conversations).map(conversation)).await;
        }
    }

    /// Waits for the replies and asserts that none is lost, none comes twice, and the replies of each conversation are
    /// in order.
    ///
    /// # Panics
    /// When one of these does not hold.
    pub async fn judge(self, house: &House) {
        let expected: Vec<String> = (0..self.turns).map(|turn| turn.to_string()).collect();
        for number in 0..self.conversations {
            let customer = Self::customer(number);
            house.replies(&customer, self.turns).await;
        }
        house.await_depths(|d| d.inbound + d.outbound + d.receipts + d.delayed == 0).await;
        for number in 0..self.conversations {
            let customer = Self::customer(number);
            let sent: Vec<String> = house.sent_to(&customer).into_iter().map(|reply| reply.body).collect();
            assert_eq!(sent, expected, "conversation {number}");
        }
    }
}
