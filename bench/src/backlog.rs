//! A backlog: texts as ingress publishes them, or parts as workers publish them, put into the queues as fast as
//! RabbitMQ confirms.

use std::collections::VecDeque;

use anyhow::{Context as _, ensure};
use broker::{Stage, Topology};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, PublisherConfirm};
use message::clock::Clock;
use message::{Address, Body, Conversation, Envelope, Inbound, IntegrationId, MessageId, Part, SCHEMA};

use crate::load::webhook::{INTEGRATION, NUMBERS};
use crate::queues::PARTITIONS;

/// The most messages that are unconfirmed at a time. It can be large because the latency of a publish is not measured
/// here.
const WINDOW: usize = 2000;
/// The number of customers that fit into one area code.
const MOST_CUSTOMERS: u64 = 7_000_000;

/// The customers and integrations that the texts are spread over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mix {
    /// The number of customers, who text in turn.
    pub(crate) customers: u64,
    /// The distance between two customers' numbers.
    pub(crate) apart: u64,
    /// The number of integrations, which are texted in turn.
    pub(crate) integrations: u64,
}

impl Mix {
    /// A different customer for each text, all on the one integration.
    pub(crate) const STRANGERS: Self = Self { customers: MOST_CUSTOMERS, apart: 1, integrations: 1 };

    /// The conversation and the integration of the text `number`.
    ///
    /// # Errors
    /// Never: numbers and ids are well formed.
    pub(crate) fn conversation(&self, number: u64) -> anyhow::Result<(IntegrationId, Conversation)> {
        let customer = 2_000_000 + number % self.customers * self.apart % MOST_CUSTOMERS;
        let parse = |text: &str| Address::parse(text).context("it is a number");
        let ours = 5_550_100 + customer % NUMBERS;
        let conversation = Conversation::new(parse(&format!("+1415{customer}"))?, parse(&format!("+1212{ours}"))?);
        Ok((IntegrationId::parse(&integration(number % self.integrations))?, conversation))
    }
}

/// The id of the integration `number`. Number 0 is the integration that every installation has.
pub(crate) fn integration(number: u64) -> String {
    if number == 0 { INTEGRATION.to_owned() } else { format!("{INTEGRATION}-{number}") }
}

/// The queues of one stage, and the messages to fill them with.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// The mix of the messages that are added from now on.
    pub(crate) mix: Mix,
    stage: Stage,
    batch: u64,
    added: u64,
    cleared: u64,
    channel: Channel,
    topology: Topology,
    _connection: Connection,
}

impl Backlog {
    /// Connects. The queues whose names begin with `prefix` must exist already. Texts go to the inbound stage, parts to
    /// the outbound stage.
    ///
    /// # Errors
    /// When RabbitMQ is away.
    pub(crate) async fn open(amqp_url: &str, prefix: &str, stage: Stage, mix: Mix) -> anyhow::Result<Self> {
        let connection = Connection::connect(amqp_url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let topology = Topology::new(prefix, PARTITIONS);
        Ok(Self { mix, stage, batch: rand::random(), added: 0, cleared: 0, channel, topology, _connection: connection })
    }

    /// Adds `count` messages, and returns once all are confirmed.
    ///
    /// # Errors
    /// When a message is not confirmed.
    pub(crate) async fn add(&mut self, count: u64) -> anyhow::Result<()> {
        let exchange = self.topology.exchange(self.stage);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let mut unconfirmed = VecDeque::with_capacity(WINDOW);
        for number in self.added..self.added + count {
            let envelope = self.envelope(number)?;
            let key = envelope.key().partition(PARTITIONS).to_string();
            let payload = envelope.encode();
            let properties = BasicProperties::default()
                .with_content_type("application/json".into())
                .with_delivery_mode(2)
                .with_message_id(envelope.id.to_string().into());
            if unconfirmed.len() == WINDOW {
                confirmed(unconfirmed.pop_front()).await?;
            }
            let sent = self.channel.basic_publish(
                exchange.as_str().into(),
                key.as_str().into(),
                options,
                &payload,
                properties,
            );
            unconfirmed.push_back(sent.await?);
        }
        while !unconfirmed.is_empty() {
            confirmed(unconfirmed.pop_front()).await?;
        }
        self.added += count;
        Ok(())
    }

    /// The number of messages added so far, without those that were thrown away.
    pub(crate) fn added(&self) -> u64 {
        self.added - self.cleared
    }

    /// The payload of one more message, which is not published.
    ///
    /// # Errors
    /// Never: see [`Mix::conversation`].
    pub(crate) fn sample(&self) -> anyhow::Result<String> {
        String::from_utf8(self.envelope(self.added)?.encode()).context("an envelope is JSON")
    }

    /// The number of messages that lie in the queues and are not held by a consumer.
    ///
    /// # Errors
    /// When RabbitMQ is away.
    pub(crate) async fn waiting(&self) -> anyhow::Result<u64> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let mut waiting = 0;
        for queue in self.queues() {
            let told = self.channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await?;
            waiting += u64::from(told.message_count());
        }
        Ok(waiting)
    }

    /// Throws away the messages that wait. They then count as if they had never been added.
    ///
    /// # Errors
    /// When RabbitMQ is away.
    pub(crate) async fn clear(&mut self) -> anyhow::Result<()> {
        for queue in self.queues().collect::<Vec<_>>() {
            let purged = self.channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await?;
            self.cleared += u64::from(purged);
        }
        Ok(())
    }

    fn queues(&self) -> impl Iterator<Item = String> {
        (0..PARTITIONS).map(|partition| self.topology.queue(self.stage, partition))
    }

    fn envelope(&self, number: u64) -> anyhow::Result<Envelope> {
        let (integration, conversation) = self.mix.conversation(number)?;
        let provider_message_id = format!("SM{:016x}{number:016x}", self.batch);
        let turn = MessageId::of_provider(&integration, &provider_message_id);
        let (id, body) = match self.stage {
            Stage::Outbound => {
                let text = "Thank you. Our branches are open Monday to Friday from 9 am to 5 pm.".into();
                (turn.derive("part/0"), Body::Part(Part { turn, index: 0, text, media: Vec::new() }))
            }
            Stage::Inbound | Stage::Receipts => {
                let text = "Hello, when is your branch in Market Street open on Saturday?".into();
                let inbound = Inbound { provider_message_id, text, media: Vec::new(), joined: Vec::new() };
                (turn, Body::Inbound(inbound))
            }
        };
        Ok(Envelope {
            schema: SCHEMA,
            id,
            integration,
            conversation,
            accepted_at: Clock::system().now(),
            attempts: Vec::new(),
            replays: Vec::new(),
            trace: message::trace::new_traceparent(),
            body,
        })
    }
}

async fn confirmed(unconfirmed: Option<PublisherConfirm>) -> anyhow::Result<()> {
    let Some(confirm) = unconfirmed else { return Ok(()) };
    ensure!(matches!(confirm.await?, Confirmation::Ack(None)), "a message of the backlog was not taken");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn customers_and_integrations_take_turns() {
        let mix = Mix { customers: 10, apart: 1000, integrations: 3 };
        let seen: HashSet<_> = (0..300).map(|number| mix.conversation(number).unwrap().1.customer).collect();
        assert_eq!(seen.len(), 10);
        let names: HashSet<_> = (0..300).map(|number| mix.conversation(number).unwrap().0).collect();
        assert_eq!(names.len(), 3);
        let last = Mix::STRANGERS.conversation(MOST_CUSTOMERS - 1).unwrap().1;
        assert_eq!(last.customer.expose(), "+14158999999");
    }
}
