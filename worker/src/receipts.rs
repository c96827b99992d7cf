//! Delivery receipts: what the provider says later about a part. They come late, twice and out of order; a part's state
//! moves forward, never back.

use std::time::Duration;

use async_trait::async_trait;
use common::broker::{Decision, Handler, Outcome, Reason};
use common::clock::{Clock, Timestamp};
use common::message::{Body, Envelope, MessageId, Receipt, ReceiptState};
use common::store::{Expect, Key, Record, Write};
use serde::{Deserialize, Serialize};

use crate::patience::{Halt, PatientStore, Written};

/// Providers report within hours; Twilio gives up on a message after at most 10 h (its longest validity period).
const TTL: Duration = Duration::from_secs(72 * 3600);
/// How often somebody else may be first before the receipt is parked.
const MAX_CONFLICTS: u32 = 8;
/// How long it is parked then.
const CONTENTION_DELAY: Duration = Duration::from_secs(5);

/// Records receipts.
pub(crate) struct ReceiptHandler {
    store: PatientStore,
    clock: Clock,
}

/// The last word on a part.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    schema: u16,
    state: ReceiptState,
    code: Option<String>,
    part: Option<MessageId>,
    at: Timestamp,
}

impl ReceiptHandler {
    /// Records receipts in `store`.
    pub(crate) fn new(store: PatientStore, clock: Clock) -> Self {
        Self { store, clock }
    }

    async fn record(&self, envelope: &Envelope, receipt: &Receipt) -> Result<Decision, Halt> {
        // The derived id has a bounded length; the provider's has whatever it likes.
        let id = MessageId::of_provider(&envelope.integration, &receipt.provider_message_id);
        let key = Key::new(envelope.key().to_hex(), format!("receipt/{id}"));
        for _ in 0..MAX_CONFLICTS {
            let [record] = self.store.get([key.clone()]).await?;
            if record.as_ref().and_then(read).is_some_and(|known| known.state >= receipt.state) {
                return Ok(Decision::done(Outcome::Duplicate));
            }
            let state = State {
                schema: 1,
                state: receipt.state,
                code: receipt.code.clone(),
                part: receipt.part,
                at: self.clock.now(),
            };
            // Strings, numbers and enums: serialising cannot fail.
            let value = serde_json::to_vec(&state).unwrap_or_default();
            let put = Write::put(key.clone(), Expect::unchanged(record.as_ref()), value, TTL);
            if self.store.commit(&[put]).await? == Written::Applied {
                metrics::counter!("switchboard_receipts_total", "state" => name(receipt.state)).increment(1);
                return Ok(Decision::done(Outcome::Recorded));
            }
        }
        Ok(Decision::retry_after(CONTENTION_DELAY))
    }
}

fn read(record: &Record) -> Option<State> {
    serde_json::from_slice(&record.value).ok()
}

fn name(state: ReceiptState) -> &'static str {
    match state {
        ReceiptState::Queued => "queued",
        ReceiptState::Sent => "sent",
        ReceiptState::Failed => "failed",
        ReceiptState::Delivered => "delivered",
        ReceiptState::Read => "read",
    }
}

#[async_trait]
impl Handler for ReceiptHandler {
    async fn handle(&self, envelope: &mut Envelope) -> Decision {
        let Body::Receipt(receipt) = &envelope.body else {
            return Decision::dead_letter(Reason::new("misrouted", "not a receipt"));
        };
        self.record(envelope, receipt).await.unwrap_or_else(Decision::from)
    }
}
