//! Delivery receipts: what the provider says later about a part. They come late, twice and out of order; a part's state
//! moves forward, never back.

use std::time::Duration;

use async_trait::async_trait;
use broker::{Reason, ReasonName};
use integration::Integrations;
use message::clock::{Clock, Timestamp};
use message::{Body, Envelope, MessageId, Receipt, ReceiptState};
use providers::{OPTED_OUT, receipt_class};
use serde::{Deserialize, Serialize};
use store::send_proof;
use store::{CommitOutcome, Expect, Interrupted, Key, Record, RetryingStore, Write};
use work::{Decision, Handler, Outcome};

/// How long a receipt's record is kept, 72 h: providers report within hours, and Twilio gives up on a message after at
/// most 10 h (its longest validity period).
const TTL: Duration = Duration::from_secs(72 * 3600);
/// How often another worker may change the record first before the receipt is parked.
const MAX_CONFLICTS: u32 = 8;
/// How long the receipt is parked then, 5 s.
const CONTENTION_DELAY: Duration = Duration::from_secs(5);

/// Records receipts.
pub(crate) struct ReceiptHandler {
    integrations: Integrations,
    store: RetryingStore,
    clock: Clock,
}

/// What the receipts of a text have told so far: each adds what the others did not tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    schema: u16,
    state: ReceiptState,
    code: Option<String>,
    part: Option<MessageId>,
    at: Timestamp,
}

impl ReceiptHandler {
    /// Records the receipts of `integrations` in `store`.
    pub(crate) fn new(integrations: Integrations, store: RetryingStore, clock: Clock) -> Self {
        Self { integrations, store, clock }
    }

    async fn record(&self, envelope: &Envelope, receipt: &Receipt) -> Result<Decision, Interrupted> {
        let key = key(envelope, receipt);
        for _ in 0..MAX_CONFLICTS {
            let [record] = self.store.get([key.clone()]).await?;
            let known = record.as_ref().and_then(read);
            let state = merge(known.as_ref(), receipt, self.clock.now());
            if known.as_ref() == Some(&state) {
                return Ok(Decision::done(Outcome::Duplicate));
            }
            // Strings, numbers and enums: serialising cannot fail.
            let value = serde_json::to_vec(&state).unwrap_or_default();
            let mut writes = vec![Write::put(key.clone(), Expect::unchanged(record.as_ref()), value, TTL)];
            writes.extend(receipt.part.map(|part| send_proof::write(part, &receipt.provider_message_id)));
            if self.store.commit(&writes).await? == CommitOutcome::Applied {
                metrics::counter!("switchboard_receipts_total", "state" => name(receipt.state)).increment(1);
                self.tell_failure(envelope, known.as_ref(), &state);
                return Ok(Decision::done(Outcome::Recorded));
            }
        }
        Ok(Decision::retry_after(CONTENTION_DELAY))
    }

    /// Counts and logs that a text that the provider had accepted did not arrive, and again when the code comes later.
    fn tell_failure(&self, envelope: &Envelope, known: Option<&State>, state: &State) {
        let failed = |state: &State| (state.state == ReceiptState::Failed).then(|| state.code.clone());
        let Some(code) = failed(state).filter(|code| known.and_then(failed).as_ref() != Some(code)) else { return };
        let integration = &envelope.integration;
        let provider = self.integrations.get(integration).map(|one| one.provider.name());
        let class = provider.map_or("other", |provider| receipt_class(provider, code.as_deref()));
        metrics::counter!("switchboard_undelivered_total", "integration" => integration.to_string(), "class" => class)
            .increment(1);
        let message = state.part.unwrap_or(envelope.id);
        let code = code.unwrap_or_default();
        if class == OPTED_OUT {
            tracing::info!(message.id = %message, integration.id = %integration, code, "a customer opted out, says the provider");
        } else {
            tracing::warn!(message.id = %message, integration.id = %integration, code, class, "a text that the provider took did not arrive");
        }
    }
}

/// The key of the state of the text that `receipt` reports on. The two numbers are no part of it: they may differ from
/// one receipt to the next.
fn key(envelope: &Envelope, receipt: &Receipt) -> Key {
    // The derived id has a bounded length; the provider's may have any length.
    let id = MessageId::of_provider(&envelope.integration, &receipt.provider_message_id);
    let scope = receipt.part.map_or_else(|| format!("text/{id}"), send_proof::scope);
    Key::new(scope, format!("receipt/{id}"))
}

/// What is known after `receipt`: the furthest state, and a code and a part once they were told.
fn merge(known: Option<&State>, receipt: &Receipt, now: Timestamp) -> State {
    let told = State { schema: 1, state: receipt.state, code: receipt.code.clone(), part: receipt.part, at: now };
    let Some(known) = known else { return told };
    let merged = State {
        state: known.state.max(told.state),
        code: known.code.clone().or(told.code),
        part: known.part.or(told.part),
        ..known.clone()
    };
    if merged == *known { merged } else { State { at: now, ..merged } }
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
            return Decision::dead_letter(Reason::new(ReasonName::Misrouted, "not a receipt"));
        };
        self.record(envelope, receipt).await.unwrap_or_else(Decision::from)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use embedded::{Database, EmbeddedStore};
    use message::shutdown::Shutdown;
    use message::{Address, Conversation, IntegrationId, SCHEMA};
    use proptest::prelude::*;
    use work::Settlement;

    use super::*;

    fn handler() -> ReceiptHandler {
        let store = Arc::new(EmbeddedStore::new(Database::in_memory().unwrap(), Clock::system()));
        let integrations = Integrations::default();
        ReceiptHandler::new(integrations, RetryingStore::new(store, Shutdown::new(Duration::ZERO)), Clock::system())
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
        let [record] = handler.store.get([send_proof::key(part)]).await.unwrap();
        assert_eq!(record.as_ref().and_then(send_proof::read).as_deref(), Some("SM1"));
    }

    #[tokio::test]
    async fn t4_receipts_of_one_part_are_one_record_whatever_their_ends_are() {
        let handler = handler();
        let mut sent = receipt("SM1", ReceiptState::Sent);
        let part = sent.id.derive("part/0");
        for (ours, expected) in [("+17205550100", "recorded"), ("+17205550177", "duplicate"), ("unknown", "duplicate")]
        {
            sent.conversation.ours = Address::parse(ours).unwrap();
            let Body::Receipt(receipt) = &mut sent.body else { unreachable!() };
            receipt.part = Some(part);
            let Settlement::Done(outcome) = handler.handle(&mut sent).await.settlement else { panic!("not done") };
            assert_eq!(outcome.as_str(), expected, "{ours}");
        }
    }

    #[test]
    fn t8_a_code_fills_in_what_an_earlier_receipt_did_not_say() {
        let at = Timestamp::UNIX_EPOCH;
        let told = |code: Option<&str>| Receipt {
            provider_message_id: "SM1".into(),
            part: None,
            state: ReceiptState::Failed,
            code: code.map(str::to_owned),
        };
        let failed = merge(None, &told(None), at);
        assert_eq!((failed.state, failed.code.as_deref()), (ReceiptState::Failed, None));
        let known = merge(Some(&failed), &told(Some("30003")), at);
        assert_eq!(known.code.as_deref(), Some("30003"));
        assert_eq!(merge(Some(&known), &told(None), at), known, "nothing is forgotten");
    }

    #[tokio::test]
    async fn a_text_among_the_receipts_is_set_aside() {
        let mut stray = receipt("SM1", ReceiptState::Sent);
        let inbound = serde_json::json!({ "type": "inbound", "provider_message_id": "SM1", "text": "x" });
        stray.body = serde_json::from_value(inbound).unwrap();
        let decision = handler().handle(&mut stray).await;
        assert!(matches!(decision.settlement, Settlement::DeadLetter(reason) if reason.name.as_str() == "misrouted"));
    }

    fn any_receipt() -> impl Strategy<Value = Receipt> {
        let state = prop::sample::select(STATES.as_slice());
        (state, any::<bool>(), any::<bool>()).prop_map(|(state, has_code, has_part)| Receipt {
            provider_message_id: "SM1".into(),
            part: has_part.then(|| MessageId::of_provider(&IntegrationId::parse("support").unwrap(), "SM0")),
            state,
            code: has_code.then(|| "30003".to_owned()),
        })
    }

    proptest! {
        #[test]
        fn t8_receipts_add_up_to_the_same_in_any_order(
            (receipts, shuffled) in prop::collection::vec(any_receipt(), 1..8)
                .prop_flat_map(|receipts| (Just(receipts.clone()), Just(receipts).prop_shuffle())),
        ) {
            let merged = |receipts: &[Receipt]| receipts.iter().fold(None, |known: Option<State>, receipt| {
                Some(merge(known.as_ref(), receipt, Timestamp::UNIX_EPOCH))
            });
            let state = merged(&receipts).unwrap();
            prop_assert_eq!(Some(state.state), receipts.iter().map(|receipt| receipt.state).max());
            prop_assert_eq!(state.code.is_some(), receipts.iter().any(|receipt| receipt.code.is_some()));
            prop_assert_eq!(state.part.is_some(), receipts.iter().any(|receipt| receipt.part.is_some()));
            prop_assert_eq!(Some(state), merged(&shuffled));
        }
    }

    const STATES: [ReceiptState; 5] =
        [ReceiptState::Queued, ReceiptState::Sent, ReceiptState::Failed, ReceiptState::Delivered, ReceiptState::Read];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn only_receipts_that_lead_forward_are_news(order in prop::collection::vec(0_usize..5, 1..12)) {
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
