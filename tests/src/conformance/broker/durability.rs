//! Messages across a restart.

use super::{BrokerFixture, Depths, Stage, assert_depths, assert_silent, inbound, settle_many};

/// A message that was published is there after a restart.
pub async fn published_messages_outlive_a_restart(fixture: &dyn BrokerFixture) {
    let broker = fixture.connect().await;
    broker.publish(&inbound(1, 0..20)).await.unwrap();
    drop(broker);
    let broker = fixture.reopen().await;
    let mut subscription = broker.subscribe(Stage::Inbound, 4);
    let seen = settle_many(&mut subscription, 20).await;
    assert_eq!(seen, (0..20).map(|number| (1, number)).collect::<Vec<_>>());
    subscription.close().await;
}

/// A message that was settled is gone after a restart.
pub async fn what_was_settled_stays_away_after_a_restart(fixture: &dyn BrokerFixture) {
    let broker = fixture.connect().await;
    broker.publish(&inbound(1, 0..4)).await.unwrap();
    let mut subscription = broker.subscribe(Stage::Inbound, 4);
    assert_eq!(settle_many(&mut subscription, 2).await, [(1, 0), (1, 1)]);
    subscription.close().await;
    drop(broker);
    let broker = fixture.reopen().await;
    let mut subscription = broker.subscribe(Stage::Inbound, 4);
    assert_eq!(settle_many(&mut subscription, 2).await, [(1, 2), (1, 3)]);
    assert_silent(&mut subscription).await;
    subscription.close().await;
    assert_depths(&*broker, Depths::default()).await;
}
