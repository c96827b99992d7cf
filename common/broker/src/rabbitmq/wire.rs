//! A message's route and properties on RabbitMQ.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use message::clock::Timestamp;

use crate::{Destination, Outgoing, Stage, Topology, delay_step};

/// AMQP's `delivery-mode` of messages that survive a restart.
const PERSISTENT: u8 = 2;
/// How many characters of a dead letter's detail its header holds at most: all headers of a message share one frame of
/// 16 KiB.
const MOST_DETAIL_CHARS: usize = 1000;

/// An exchange and a routing key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Route {
    pub(super) exchange: String,
    pub(super) key: String,
}

/// The route to `message`'s destination. A message without a conversation goes to partition 0: it has no order to keep.
pub(super) fn route(topology: &Topology, message: &Outgoing) -> Route {
    let partition = |stage: Stage| {
        let partition = message.key.map_or(0, |key| key.partition(topology.partitions_of(stage)));
        partition.to_string()
    };
    match &message.destination {
        Destination::Work(stage) => Route { exchange: topology.exchange(*stage), key: partition(*stage) },
        Destination::Delayed(stage, delay) => {
            Route { exchange: topology.delay(*stage, delay_step(*delay).0), key: partition(*stage) }
        }
        Destination::Dead(stage, _) => {
            Route { exchange: topology.dead_exchange(), key: Topology::dead_key(*stage).to_owned() }
        }
    }
}

/// The properties of `message`, published at `now`. Those of a dead letter also hold its reason.
pub(super) fn properties(message: &Outgoing, now: Timestamp) -> BasicProperties {
    let mut headers = FieldTable::default();
    let mut insert = |name: &str, text: &str| {
        headers.insert(name.into(), AMQPValue::LongString(text.into()));
    };
    insert("traceparent", &message.trace);
    if let Destination::Dead(stage, reason) = &message.destination {
        insert("reason", reason.name.as_str());
        insert("detail", beginning(&reason.detail));
        insert("stage", stage.as_str());
        insert("dead_at", &now.to_string());
    }
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_timestamp(u64::try_from(now.as_second()).unwrap_or_default())
        .with_headers(headers);
    match message.id {
        Some(id) => properties.with_message_id(id.to_string().into()),
        None => properties,
    }
}

/// `detail`, cut to `MOST_DETAIL_CHARS`.
fn beginning(detail: &str) -> &str {
    let end = detail.char_indices().nth(MOST_DETAIL_CHARS).map_or(detail.len(), |(end, _)| end);
    detail.get(..end).unwrap_or(detail)
}

/// How often a message with `properties` was handed out before.
pub(super) fn redeliveries(properties: &BasicProperties, is_redelivered: bool) -> u32 {
    let headers = properties.headers().as_ref();
    let count = headers.and_then(|headers| headers.inner().get("x-delivery-count")).and_then(number);
    count.unwrap_or_default().max(u32::from(is_redelivered))
}

fn number(value: &AMQPValue) -> Option<u32> {
    match value {
        AMQPValue::ShortShortInt(n) => u32::try_from(*n).ok(),
        AMQPValue::ShortShortUInt(n) => Some(u32::from(*n)),
        AMQPValue::ShortInt(n) => u32::try_from(*n).ok(),
        AMQPValue::ShortUInt(n) => Some(u32::from(*n)),
        AMQPValue::LongInt(n) => u32::try_from(*n).ok(),
        AMQPValue::LongUInt(n) => Some(*n),
        AMQPValue::LongLongInt(n) => u32::try_from(*n).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use message::{ConversationKey, MessageId};

    use super::*;
    use crate::{Reason, ReasonName};

    fn outgoing(destination: Destination) -> Outgoing {
        Outgoing {
            destination,
            id: MessageId::parse("00000000-0000-0000-0000-000000000007"),
            key: ConversationKey::from_hex("2570a818286cb81db434fbeca103aea8"),
            trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
            payload: "{}".into(),
        }
    }

    #[test]
    fn a_destination_is_an_exchange_and_the_conversations_partition() {
        let topology = Topology::new("sb", 64);
        let to = |destination| {
            let Route { exchange, key } = route(&topology, &outgoing(destination));
            format!("{exchange} {key}")
        };
        let minute = Duration::from_secs(60);
        assert_eq!(to(Destination::Work(Stage::Inbound)), "sb.inbound 29");
        assert_eq!(to(Destination::Work(Stage::Receipts)), "sb.receipts 0");
        assert_eq!(to(Destination::Delayed(Stage::Outbound, Duration::ZERO)), "sb.delay.outbound.5s 29");
        assert_eq!(to(Destination::Delayed(Stage::Outbound, Duration::from_secs(5))), "sb.delay.outbound.5s 29");
        assert_eq!(to(Destination::Delayed(Stage::Outbound, minute)), "sb.delay.outbound.30s 29");
        assert_eq!(to(Destination::Delayed(Stage::Inbound, 59 * minute)), "sb.delay.inbound.10m 29");
        assert_eq!(to(Destination::Delayed(Stage::Inbound, 600 * minute)), "sb.delay.inbound.1h 29");
        assert_eq!(
            to(Destination::Dead(Stage::Receipts, Reason::new(ReasonName::Unreadable, "no envelope"))),
            "sb.dead inbound"
        );
        let unread = Outgoing { key: None, ..outgoing(Destination::Work(Stage::Outbound)) };
        assert_eq!(route(&topology, &unread).key, "0");
    }

    #[test]
    fn a_dead_letter_says_why_and_when() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let letter =
            outgoing(Destination::Dead(Stage::Outbound, Reason::new(ReasonName::Permanent, "number unreachable")));
        let properties = properties(&letter, now);
        let headers = properties.headers().clone().unwrap();
        let said: Vec<_> = headers.inner().iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let text = |text: &str| AMQPValue::LongString(text.into());
        assert_eq!(
            said,
            [
                ("dead_at", text("2026-11-22T10:00:00Z")),
                ("detail", text("number unreachable")),
                ("reason", text("permanent")),
                ("stage", text("outbound")),
                ("traceparent", text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
            ]
        );
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "00000000-0000-0000-0000-000000000007");
        assert_eq!(*properties.delivery_mode(), Some(PERSISTENT));
    }

    #[test]
    fn redeliveries_are_what_the_broker_counted_and_at_least_what_it_flags() {
        let with = |value| {
            let mut headers = FieldTable::default();
            headers.insert("x-delivery-count".into(), value);
            BasicProperties::default().with_headers(headers)
        };
        assert_eq!(redeliveries(&BasicProperties::default(), false), 0);
        assert_eq!(redeliveries(&BasicProperties::default(), true), 1);
        assert_eq!(redeliveries(&with(AMQPValue::LongLongInt(3)), true), 3);
        assert_eq!(redeliveries(&with(AMQPValue::LongLongInt(-3)), false), 0);
    }
}
