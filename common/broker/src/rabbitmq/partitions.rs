//! The partition count in use. Every process agrees on it before it publishes or consumes.
//!
//! A conversation's partition depends on the count, so two counts at once would split its messages over two queues. The
//! queue `<p>.partitions` never holds a message. It is declared with the count as its length limit, which RabbitMQ
//! compares: a process with another count is refused, and told the count in use. A process that agrees consumes from
//! the queue for as long as its connection lasts, so the queue's consumers are the connections that use the count.

use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use message::failure::Failure;

use super::step::{answer, step};
use super::{declare, failure};
use crate::Topology;

/// The partition count in use, when it is not ours.
pub(super) struct OtherNumber(pub(super) u16);

/// Marks a connection as a user of the partition count, until dropped.
pub(super) struct Presence {
    consumer: lapin::Consumer,
    _channel: Channel,
}

impl Presence {
    /// Returns when the presence is lost: from then on the connection may neither publish nor consume.
    pub(super) async fn lost(&mut self) {
        while self.consumer.next().await.is_some_and(|taken| taken.is_ok()) {}
    }
}

/// Sets the partition count to that of `topology`, or returns the one in use if it is another. Needs no leader of the
/// queue.
pub(super) async fn agree(connection: &Connection, topology: &Topology) -> Result<Result<(), OtherNumber>, Failure> {
    let channel = step("cannot open a channel", connection.create_channel()).await?;
    Ok(put_in_force(&channel, topology).await?.map_or(Ok(()), |other| Err(OtherNumber(other))))
}

/// Registers the connection as a user of the partition count. If the queue has no leader, RabbitMQ ends the connection.
pub(super) async fn take_place(connection: &Connection, topology: &Topology) -> Result<Presence, Failure> {
    let channel = step("cannot open a channel", connection.create_channel()).await?;
    let name = topology.in_force();
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let consuming = channel.basic_consume(name.as_str().into(), "".into(), options, arguments);
    let consumer = step(&format!("cannot consume queue {name}"), consuming).await?;
    Ok(Presence { consumer, _channel: channel })
}

/// Fails while the partition count is being changed.
pub(super) async fn refuse_change(connection: &Connection, topology: &Topology) -> Result<(), Failure> {
    if is_locked(connection, topology).await? {
        return Err(Failure::transient("the number of partitions is just being changed"));
    }
    Ok(())
}

/// Sets the partition count to that of `topology`, or returns the one in use if it is another.
pub(super) async fn put_in_force(channel: &Channel, topology: &Topology) -> Result<Option<u16>, Failure> {
    let name = topology.in_force();
    let arguments = declare::in_force_arguments(topology);
    let declaring = channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), arguments);
    let what = format!("cannot declare queue {name}");
    match answer(&what, declaring).await? {
        Ok(_) => Ok(None),
        Err(error) => match number_in(&error.to_string()) {
            Some(other) if failure::reply_code(&error) == Some(406) => Ok(Some(other)),
            _ => Err(failure::of_setup(&what, &error)),
        },
    }
}

/// The partition count in RabbitMQ's refusal: "inequivalent arg 'x-max-length' for queue …: received … but current is …
/// '4' …".
fn number_in(refusal: &str) -> Option<u16> {
    let (_, current) = refusal.split_once("'x-max-length'")?.1.split_once("current is ")?;
    let digits = current.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

/// Whether a process holds the lock under which the partition count is changed. Asking costs the channel, and RabbitMQ
/// logs it.
async fn is_locked(connection: &Connection, topology: &Topology) -> Result<bool, Failure> {
    let channel = step("cannot open a channel", connection.create_channel()).await?;
    let (name, options) = (topology.in_force_lock(), QueueDeclareOptions::default().passive());
    let asking = channel.queue_declare(name.as_str().into(), options, FieldTable::default());
    match answer("cannot ask for the lock", asking).await? {
        Err(error) if failure::is_not_found(&error) => Ok(false),
        Err(error) if failure::is_locked(&error) => Ok(true),
        Err(error) => Err(failure::of_setup("cannot ask for the lock", &error)),
        Ok(_) => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_number_in_force_is_read_from_the_refusal() {
        let of = |received, current| {
            format!(
                "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'sb7.partitions' in vhost '/9': \
                 received {received} but current is {current}"
            )
        };
        let long = of("the value '8' of type 'signedint'", "the value '4' of type 'signedint'");
        assert_eq!(number_in(&long), Some(4));
        assert_eq!(number_in(&of("'8'", "'1024'")), Some(1024));
        assert_eq!(number_in(&of("'8'", "none")), None);
        assert_eq!(number_in("inequivalent arg 'x-queue-type': received 'quorum' but current is 'classic' 7"), None);
    }

    proptest! {
        #[test]
        fn no_refusal_makes_it_panic(text in ".*") {
            let _number = number_in(&format!("'x-max-length' current is {text}"));
        }
    }
}
