//! Parked messages and dead letters.

use broker::ReasonName;

use super::{
    BrokerFixture, Depths, Destination, Duration, Instant, Outgoing, Reason, Stage, assert_depths, assert_silent,
    inbound, receive, settle_many, text_from, which,
};

/// A parked message returns to its own conversation, and not before its time.
///
/// While a worker holds it, another worker does not get the conversation's next text. On RabbitMQ the shortest wait is
/// 5 s.
pub async fn a_delayed_message_waits_and_keeps_its_place(fixture: &dyn BrokerFixture) {
    let (one, other) = (fixture.connect().await, fixture.connect().await);
    let (mut first, mut second) = (one.subscribe(Stage::Inbound, 1), other.subscribe(Stage::Inbound, 1));
    let delay = Duration::from_secs(1);
    let parked = Outgoing::new(Destination::Delayed(Stage::Inbound, delay), &text_from(1, 0, "later"));
    let parked_at = Instant::now();
    one.publish(std::slice::from_ref(&parked)).await.unwrap();
    let (returned, mut holder, mut waiting) = tokio::select! {
        delivery = receive(&mut first) => (delivery, first, second),
        delivery = receive(&mut second) => (delivery, second, first),
    };
    // The adapter's clock and the test's may differ by a few milliseconds.
    assert!(parked_at.elapsed() >= delay - Duration::from_millis(20), "back after {:?}", parked_at.elapsed());
    assert_eq!(returned.payload, parked.payload);
    one.publish(&inbound(1, 1..2)).await.unwrap();
    assert_silent(&mut waiting).await;
    returned.settle(&[]).await.unwrap();
    let next = tokio::select! {
        delivery = receive(&mut holder) => delivery,
        delivery = receive(&mut waiting) => delivery,
    };
    assert_eq!(which(&next), (1, 1));
    next.settle(&[]).await.unwrap();
    holder.close().await;
    waiting.close().await;
    assert_depths(&*one, Depths::default()).await;
}

/// Dead letters stay in their queue until an operator asks for them.
pub async fn dead_letters_are_counted_and_not_delivered(fixture: &dyn BrokerFixture) {
    let broker = fixture.connect().await;
    let dead = |stage, number| {
        let reason = Reason::new(ReasonName::Unreadable, "not an envelope: Syntax error at line 1 column 1");
        Outgoing::new(Destination::Dead(stage, reason), &text_from(1, number, "dead"))
    };
    let mut messages: Vec<_> = Stage::ALL.into_iter().zip(10..).map(|(stage, number)| dead(stage, number)).collect();
    messages.extend(inbound(1, 0..1));
    broker.publish(&messages).await.unwrap();
    assert_depths(&*broker, Depths { inbound: 1, dead: 3, ..Depths::default() }).await;
    for stage in Stage::ALL {
        let mut subscription = broker.subscribe(stage, 4);
        if stage == Stage::Inbound {
            assert_eq!(settle_many(&mut subscription, 1).await, [(1, 0)]);
        }
        assert_silent(&mut subscription).await;
        subscription.close().await;
    }
    assert_depths(&*broker, Depths { dead: 3, ..Depths::default() }).await;
}
