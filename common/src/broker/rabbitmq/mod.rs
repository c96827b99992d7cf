//! The rabbitmq broker adapter.

use async_trait::async_trait;

use super::Topology;
use super::{Broker, Depths, Outgoing, Stage, Subscription};
use crate::failure::Failure;
use secrecy::SecretString;

/// placeholder
#[derive(Debug)]
pub struct RabbitMq;

impl RabbitMq {
    /// placeholder
    #[must_use]
    pub fn new(_urls: Vec<SecretString>, _topology: Topology) -> Self {
        Self
    }
}

struct Nothing;
#[async_trait]
impl Subscription for Nothing {
    async fn next(&mut self) -> super::Delivery {
        std::future::pending().await
    }
    async fn close(self: Box<Self>) {}
}

#[async_trait]
impl Broker for RabbitMq {
    async fn publish(&self, _messages: &[Outgoing]) -> Result<(), Failure> {
        Err(Failure::permanent("placeholder"))
    }
    fn subscribe(&self, _stage: Stage, _prefetch: u16) -> Box<dyn Subscription> {
        Box::new(Nothing)
    }
    async fn depths(&self) -> Result<Depths, Failure> {
        Err(Failure::permanent("placeholder"))
    }
    async fn check(&self) -> Result<(), Failure> {
        Err(Failure::permanent("placeholder"))
    }
}
