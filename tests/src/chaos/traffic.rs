//! Many customers who text a number, each in order and without waiting for replies. Their provider repeats the texts
//! that were not accepted, and some that were.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use simulator::{Phone, Text};
use tokio::time::{Instant, sleep, sleep_until};

/// The wait before a text that was not accepted is posted again.
const POSTED_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// The time after which a customer gives up on a text.
const GIVE_UP_AFTER: Duration = Duration::from_secs(240);

/// The amount of traffic.
#[derive(Debug, Clone)]
pub(super) struct Traffic {
    /// The number of customers.
    pub(super) conversations: usize,
    /// The number of texts of each customer.
    pub(super) texts_each: usize,
    /// The time over which the texts are spread.
    pub(super) duration: Duration,
    /// The fraction of webhooks that are repeated, at once or after later texts; 0 to 1.
    pub(super) duplicates: f64,
    /// The seed for the times of the texts, and for the choice of repeated webhooks.
    pub(super) seed: u64,
}

/// The counts of the texts so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Accepted with a 2xx.
    pub(super) accepted: AtomicU64,
    /// Refused for good with a 4xx.
    pub(super) refused: AtomicU64,
    /// Answered with 503, which is temporary.
    pub(super) turned_away: AtomicU64,
    /// Webhooks that were posted again although they were accepted.
    pub(super) repeated: AtomicU64,
}

/// The phone number of the customer in `conversation`.
pub(super) fn customer(conversation: usize) -> String {
    format!("+1303555{:04}", 1000 + conversation)
}

/// The words of a text; they differ for every text of a customer.
pub(super) fn body(conversation: usize, number: usize) -> String {
    format!("c{conversation}t{number}")
}

/// The number of the text with the words `body` in `conversation`; the reverse of [`body`].
pub(super) fn number_of(conversation: usize, body: &str) -> Option<usize> {
    body.strip_prefix(&format!("c{conversation}t"))?.parse().ok()
}

impl Traffic {
    /// The number of texts in all.
    pub(super) fn texts(&self) -> u64 {
        (self.conversations * self.texts_each) as u64
    }

    /// Sends all texts. Returns the numbers of the accepted texts of each conversation, in the order of acceptance.
    pub(super) async fn run(&self, phone: &Phone, ours: &str, progress: &Arc<Progress>) -> Vec<Vec<usize>> {
        let people = (0..self.conversations).map(|conversation| {
            tokio::spawn(self.clone().converse(conversation, phone.clone(), ours.to_owned(), Arc::clone(progress)))
        });
        join_all(people).await.into_iter().map(|person| person.expect("nobody panics")).collect()
    }

    async fn converse(self, conversation: usize, phone: Phone, ours: String, progress: Arc<Progress>) -> Vec<usize> {
        let mut dice = StdRng::seed_from_u64(self.seed ^ (conversation as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (start, mut accepted, mut repeats) = (Instant::now(), Vec::new(), Vec::new());
        for number in 0..self.texts_each {
            let share = (number as f64 + dice.random::<f64>()) / self.texts_each as f64;
            sleep_until(start + self.duration.mul_f64(share)).await;
            let text = Text::new(customer(conversation), &ours, body(conversation, number))
                .with_id(format!("SM{:08x}{conversation:012x}{number:012x}", self.seed as u32));
            let is_accepted = post(&phone, &text, &progress.turned_away).await;
            let count = if is_accepted { &progress.accepted } else { &progress.refused };
            count.fetch_add(1, Ordering::Relaxed);
            if is_accepted {
                accepted.push(number);
            }
            if dice.random_bool(self.duplicates) {
                // The repeated webhook comes at once, or behind some of the following texts.
                repeats.push((number + dice.random_range(0..4), text));
            }
            let due: Vec<_> = repeats.extract_if(.., |(when, _)| *when <= number).collect();
            for (_, text) in due {
                drop(phone.send(text).await);
                progress.repeated.fetch_add(1, Ordering::Relaxed);
            }
        }
        accepted
    }
}

/// Posts `text` until it is accepted or refused for good. Every attempt has the same id.
async fn post(phone: &Phone, text: &Text, turned_away: &AtomicU64) -> bool {
    let deadline = Instant::now() + GIVE_UP_AFTER;
    while Instant::now() < deadline {
        match phone.send(text.clone()).await {
            Ok(answer) if (200..300).contains(&answer.status) => return true,
            Ok(answer) if (400..500).contains(&answer.status) => return false,
            // The text is not durable, or ingress is away, so the provider or the customer tries again.
            answer => {
                turned_away.fetch_add(u64::from(answer.is_ok_and(|answer| answer.status == 503)), Ordering::Relaxed);
                sleep(POSTED_AGAIN_AFTER).await;
            }
        }
    }
    false
}
