//! Many conversations that text numbers, and the judge of what came back.

use std::time::Duration;

use simulator::Answer;

use crate::house::{House, text_until_accepted};

/// Numbered texts of many conversations.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// How many customers text.
    pub conversations: usize,
    /// How many texts each sends: 0, 1, 2, …
    pub turns: usize,
    /// How long each waits between two of them.
    pub gap: Duration,
}

impl Traffic {
    /// The number of the `conversation`th customer.
    #[must_use]
    pub fn customer(conversation: usize) -> String {
        format!("+1303555{:04}", 4000 + conversation)
    }

    /// Lets the assistant answer each text with its own words.
    pub fn echo(house: &House) {
        house.simulator.assistant().answer_with(|turn| Answer::text(turn.text.clone()));
    }

    /// Texts everything, each text until it is accepted.
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

    /// Waits for the replies and asserts that none is lost, none comes twice, and each conversation's are in order.
    ///
    /// # Panics
    /// When it is otherwise.
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
