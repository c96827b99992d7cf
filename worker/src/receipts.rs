//! Delivery receipts: what the provider says later about a part. They come late, twice and out of order; a part's state
//! moves forward, never back.

use std::time::Duration;

use async_trait::async_trait;
use common::broker::{Decision, Handler, Outcome, Reason};
use common::clock::{Clock, Timestamp};
use common::message::{Body, Envelope, MessageId, Receipt, ReceiptState};
use common::store::{Expect, Halt, Key, PatientStore, Record, Write, Written};
use common::witness;
use serde::{Deserialize, Serialize};

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
            let mut writes = vec![Write::put(key.clone(), Expect::unchanged(record.as_ref()), value, TTL)];
            writes.extend(receipt.part.map(|part| witness::write(envelope.key(), part, &receipt.provider_message_id)));
            if self.store.commit(&writes).await? == Written::Applied {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use common::broker::Settlement;
    use common::message::{Address, Conversation, IntegrationId, SCHEMA};
    use common::shutdown::Shutdown;
    use common::store::embedded::{Database, EmbeddedStore};
    use proptest::prelude::*;

    fn handler() -> ReceiptHandler {
        let store = Arc::new(EmbeddedStore::new(Database::in_memory().unwrap(), Clock::system()));
        ReceiptHandler::new(PatientStore::new(store, Shutdown::new(Duration::ZERO)), Clock::system())
    }

    fn receipt(of: &str, state: ReceiptState) -> Envelope {
        let integration = IntegrationId::parse("support").unwrap();
        let number = |n| Address::parse(n).unwrap();
        let receipt = Receipt { provider_message_id: of.into(), part: None, state, code: None };
        Envelope {
            schema: SCHEMA,
            id: MessageId::of_provider(&integration, of),
            integration,
            conversation: Conversation::new(number("+13035550199"), number("+17205550100")),
            accepted_at: Timestamp::UNIX_EPOCH,
            attempts: Vec::new(),
            replays: Vec::new(),
            trace: String::new(),
            body: Body::Receipt(receipt),
        }
    }

    async fn is_news(handler: &ReceiptHandler, of: &str, state: ReceiptState) -> bool {
        match handler.handle(&mut receipt(of, state)).await.settlement {
            Settlement::Done(Outcome::Recorded) => true,
            Settlement::Done(Outcome::Duplicate) => false,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn receipts_that_an_earlier_release_recorded_are_read() {
        let value = include_bytes!("../../tests/fixtures/records/v1/receipt.json").as_slice();
        let state = read(&Record { value: value.into(), version: 1 }).unwrap();
        assert_eq!((state.state, state.part.is_some()), (ReceiptState::Sent, true));
        let json: serde_json::Value = serde_json::from_slice(value).unwrap();
        assert_eq!(serde_json::to_value(&state).unwrap(), json);
    }

    #[tokio::test]
    async fn each_message_has_a_state_of_its_own() {
        let handler = handler();
        assert!(is_news(&handler, "SM1", ReceiptState::Delivered).await);
        assert!(is_news(&handler, "SM2", ReceiptState::Sent).await);
        assert!(!is_news(&handler, "SM1", ReceiptState::Sent).await);
    }

    #[tokio::test]
    async fn a_receipt_that_names_our_part_is_a_witness_for_the_sender() {
        let handler = handler();
        let mut sent = receipt("SM1", ReceiptState::Sent);
        let part = sent.id.derive("part/0");
        let Body::Receipt(receipt) = &mut sent.body else { unreachable!() };
        receipt.part = Some(part);
        handler.handle(&mut sent).await;
        let [record] = handler.store.get([witness::key(sent.key(), part)]).await.unwrap();
        assert_eq!(record.as_ref().and_then(witness::read).as_deref(), Some("SM1"));
    }

    #[tokio::test]
    async fn a_text_among_the_receipts_is_set_aside() {
        let mut stray = receipt("SM1", ReceiptState::Sent);
        let inbound = serde_json::json!({ "type": "inbound", "provider_message_id": "SM1", "text": "x" });
        stray.body = serde_json::from_value(inbound).unwrap();
        let decision = handler().handle(&mut stray).await;
        assert!(matches!(decision.settlement, Settlement::DeadLetter(reason) if reason.name == "misrouted"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn only_receipts_that_lead_forward_are_news(order in prop::collection::vec(0_usize..5, 1..12)) {
            const STATES: [ReceiptState; 5] = [
                ReceiptState::Queued,
                ReceiptState::Sent,
                ReceiptState::Failed,
                ReceiptState::Delivered,
                ReceiptState::Read,
            ];
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (handler, mut furthest) = (handler(), None);
                for at in order {
                    assert_eq!(is_news(&handler, "SM1", STATES[at]).await, furthest < Some(at));
                    furthest = furthest.max(Some(at));
                }
            });
        }
    }
}
