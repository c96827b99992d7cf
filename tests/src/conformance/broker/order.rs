//! Order within a conversation.

use std::collections::BTreeMap;

use super::{BrokerFixture, Depths, Stage, assert_depths, inbound, receive_many, settle_many, which, work};

/// Many messages keep their order, both one after the other and several at once.
pub async fn one_conversation_keeps_its_order(fixture: &dyn BrokerFixture) {
    let broker = fixture.connect().await;
    for number in 0..20 {
        broker.publish(&inbound(1, number..number + 1)).await.unwrap();
    }
    for start in (20..200).step_by(30) {
        broker.publish(&inbound(1, start..start + 30)).await.unwrap();
    }
    let mut subscription = broker.subscribe(Stage::Inbound, 16);
    let seen = settle_many(&mut subscription, 200).await;
    assert_eq!(seen, (0..200).map(|number| (1, number)).collect::<Vec<_>>());
    subscription.close().await;
}

/// Many conversations at a time keep their orders, and are read while they are written.
pub async fn interleaved_conversations_keep_their_orders(fixture: &dyn BrokerFixture) {
    let (publisher, worker) = (fixture.connect().await, fixture.connect().await);
    let publishing = tokio::spawn(async move {
        for number in 0..25 {
            let round: Vec<_> = (0..20).map(|customer| work(Stage::Inbound, customer, number)).collect();
            publisher.publish(&round).await.unwrap();
        }
    });
    let mut subscription = worker.subscribe(Stage::Inbound, 8);
    let seen = settle_many(&mut subscription, 500).await;
    publishing.await.unwrap();
    assert_in_order(&seen, 20, 25);
    subscription.close().await;
}

/// Publishers that share only the queues lose no messages.
pub async fn concurrent_publishers_lose_nothing(fixture: &dyn BrokerFixture) {
    let mut publishers = tokio::task::JoinSet::new();
    for connection in 0..4 {
        let broker = fixture.connect().await;
        for publisher in 0..8 {
            let (broker, customer) = (broker.clone(), connection * 8 + publisher);
            publishers.spawn(async move {
                for number in 0..10 {
                    broker.publish(&inbound(customer, number..number + 1)).await.unwrap();
                }
            });
        }
    }
    publishers.join_all().await;
    let worker = fixture.connect().await;
    let mut subscription = worker.subscribe(Stage::Inbound, 16);
    assert_in_order(&settle_many(&mut subscription, 320).await, 32, 10);
    subscription.close().await;
    assert_depths(&*worker, Depths::default()).await;
}

/// Lanes may finish in any order.
pub async fn settling_out_of_order_loses_nothing(fixture: &dyn BrokerFixture) {
    let broker = fixture.connect().await;
    broker.publish(&inbound(1, 0..12)).await.unwrap();
    let mut subscription = broker.subscribe(Stage::Inbound, 4);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let deliveries = receive_many(&mut subscription, 4).await;
        seen.extend(deliveries.iter().map(which));
        for delivery in deliveries.iter().rev() {
            delivery.settle(&[]).await.unwrap();
        }
    }
    assert_in_order(&seen, 1, 12);
    subscription.close().await;
    assert_depths(&*broker, Depths::default()).await;
}

/// Asserts that each of `customers` customers sent `texts` texts, and that they came in order.
fn assert_in_order(seen: &[(u16, u32)], customers: usize, texts: u32) {
    let mut by_customer: BTreeMap<u16, Vec<u32>> = BTreeMap::new();
    for (customer, number) in seen {
        by_customer.entry(*customer).or_default().push(*number);
    }
    assert_eq!(by_customer.len(), customers);
    for (customer, numbers) in by_customer {
        assert_eq!(numbers, (0..texts).collect::<Vec<_>>(), "customer {customer}");
    }
}
