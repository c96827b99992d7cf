//! Reads the headers of a dead letter on RabbitMQ. Our own headers say why a handler dead-lettered it. A message that
//! RabbitMQ dead-lettered itself, after too many deliveries, has only its `x-death`:
//! <https://www.rabbitmq.com/docs/dlx#effects>.

use std::collections::BTreeMap;

use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use message::clock::Timestamp;
use message::{Body, Envelope};

use crate::Stage;
use crate::dead_letters::{DeadLetter, LetterTag};

type Headers = BTreeMap<ShortString, AMQPValue>;

/// The dead letter in `delivery`, identified by `tag`, from the dead-letter queue of `shelf`.
pub(super) fn read(delivery: Delivery, shelf: Stage, tag: LetterTag) -> DeadLetter {
    let none = FieldTable::default();
    let headers = delivery.properties.headers().as_ref().unwrap_or(&none).inner();
    let death = latest_death(headers);
    let of_ours = |name| headers.get(name).and_then(text);
    let of_death = |name| death.and_then(|death| death.get(name)).and_then(text);
    let reason = of_ours("reason").or_else(|| of_death("reason"));
    let count = || death.and_then(|death| death.get("count")).and_then(text).unwrap_or_default();
    let by_rabbitmq =
        || of_death("queue").map(|queue| format!("RabbitMQ took it off {queue} itself, for the time {}", count()));
    let named = |stage: String| Stage::ALL.into_iter().find(|one| one.as_str() == stage);
    DeadLetter {
        tag,
        stage: of_ours("stage").and_then(named).unwrap_or_else(|| stage_of(&delivery.data, shelf)),
        reason: reason.unwrap_or_else(|| "unknown".to_owned()),
        detail: of_ours("detail").or_else(by_rabbitmq).unwrap_or_default(),
        died_at: of_ours("dead_at").and_then(|at| at.parse().ok()).or_else(|| death.and_then(time)),
        headers: headers.iter().filter_map(|(name, value)| Some((name.to_string(), text(value)?))).collect(),
        payload: delivery.data.into(),
    }
}

/// The newest entry of `x-death`. A parked message also has one for its delay queue.
fn latest_death(headers: &Headers) -> Option<&Headers> {
    let AMQPValue::FieldArray(deaths) = headers.get("x-death")? else { return None };
    match deaths.as_slice().first()? {
        AMQPValue::FieldTable(death) => Some(death.inner()),
        _ => None,
    }
}

fn time(death: &Headers) -> Option<Timestamp> {
    match death.get("time")? {
        AMQPValue::Timestamp(second) => Timestamp::from_second(i64::try_from(*second).ok()?).ok(),
        _ => None,
    }
}

/// The stage of a message without a header of ours. Receipts share the dead-letter queue of inbound messages, so the
/// payload decides.
fn stage_of(payload: &[u8], shelf: Stage) -> Stage {
    match Envelope::decode(payload).map(|envelope| envelope.body) {
        Ok(Body::Inbound(_) | Body::Unread(_)) => Stage::Inbound,
        Ok(Body::Part(_)) => Stage::Outbound,
        Ok(Body::Receipt(_)) => Stage::Receipts,
        Err(_) => shelf,
    }
}

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::Boolean(is_so) => Some(is_so.to_string()),
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        AMQPValue::LongInt(number) => Some(number.to_string()),
        AMQPValue::LongUInt(number) => Some(number.to_string()),
        AMQPValue::LongLongInt(number) => Some(number.to_string()),
        AMQPValue::Timestamp(second) => Some(second.to_string()),
        _ => None,
    }
}
