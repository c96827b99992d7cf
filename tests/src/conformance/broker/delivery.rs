//! Publishing, receiving and settling.

use broker::ReasonName;

use super::{
    Arc, BrokerFixture, Bytes, DEADLINE, Depths, Destination, Duration, Instant, Outgoing, Reason, Stage, WATCH,
    assert_depths, assert_silent, inbound, receive, receive_many, settle_many, text_from, timeout, which, work,
};

/// A published message arrives unchanged, as a first delivery.
pub async fn what_is_published_arrives(fixture: &dyn BrokerFixture) {
    let (publisher, worker) = (fixture.connect().await, fixture.connect().await);
    let message = work(Stage::Inbound, 1, 0);
    publisher.publish(std::slice::from_ref(&message)).await.unwrap();
    let mut subscription = worker.subscribe(Stage::Inbound, 4);
    let delivery = receive(&mut subscription).await;
    assert_eq!(delivery.payload, message.payload);
    assert_eq!(delivery.redeliveries, 0);
    delivery.settle(&[]).await.unwrap();
    publisher.publish(&[]).await.unwrap();
    assert_silent(&mut subscription).await;
    subscription.close().await;
}

/// Each stage delivers its own messages only.
pub async fn stages_do_not_mix(fixture: &dyn BrokerFixture) {
    let broker = fixture.connect().await;
    let all: Vec<_> = Stage::ALL.into_iter().zip(0..).map(|(stage, number)| work(stage, 1, number)).collect();
    broker.publish(&all).await.unwrap();
    for (stage, number) in Stage::ALL.into_iter().zip(0..) {
        let mut subscription = broker.subscribe(stage, 4);
        assert_eq!(settle_many(&mut subscription, 1).await, [(1, number)]);
        assert_silent(&mut subscription).await;
        subscription.close().await;
    }
}

/// An unreadable payload has neither id nor conversation.
pub async fn payloads_without_a_conversation_arrive(fixture: &dyn BrokerFixture) {
    let broker = fixture.connect().await;
    let payload = Bytes::from_static(b"\xff\x00 no envelope");
    let destination = Destination::Work(Stage::Inbound);
    let message = Outgoing { destination, id: None, key: None, trace: String::new(), payload: payload.clone() };
    broker.publish(&[message]).await.unwrap();
    let mut subscription = broker.subscribe(Stage::Inbound, 1);
    let delivery = receive(&mut subscription).await;
    assert_eq!(delivery.payload, payload);
    delivery.settle(&[]).await.unwrap();
    subscription.close().await;
}

/// Payloads far larger than a text arrive, too.
pub async fn a_payload_of_256_kib_arrives(fixture: &dyn BrokerFixture) {
    let broker = fixture.connect().await;
    let large = text_from(1, 0, &"0123456789abcdef".repeat(16 * 1024));
    let message = Outgoing::new(Destination::Work(Stage::Inbound), &large);
    assert!(message.payload.len() > 256 * 1024);
    broker.publish(std::slice::from_ref(&message)).await.unwrap();
    let mut subscription = broker.subscribe(Stage::Inbound, 1);
    let delivery = receive(&mut subscription).await;
    assert!(delivery.payload == message.payload, "the payload changed");
    delivery.settle(&[]).await.unwrap();
    subscription.close().await;
}

/// A subscriber that waits on empty queues gets a message that comes later, from another connection too.
pub async fn a_waiting_subscriber_is_woken(fixture: &dyn BrokerFixture) {
    let (publisher, worker) = (fixture.connect().await, fixture.connect().await);
    let mut subscription = worker.subscribe(Stage::Outbound, 4);
    for number in 0..3 {
        let next = tokio::spawn(async move {
            let delivery = receive(&mut subscription).await;
            (delivery, subscription)
        });
        tokio::task::yield_now().await;
        publisher.publish(&[work(Stage::Outbound, 1, number)]).await.unwrap();
        let (delivery, same) = timeout(DEADLINE, next).await.unwrap().unwrap();
        assert_eq!(which(&delivery), (1, number));
        delivery.settle(&[]).await.unwrap();
        subscription = same;
    }
    subscription.close().await;
}

/// `next` may be dropped at any moment, as `select!` does.
pub async fn cancelling_next_loses_nothing(fixture: &dyn BrokerFixture) {
    let broker = fixture.connect().await;
    broker.publish(&inbound(1, 0..40)).await.unwrap();
    let mut subscription = broker.subscribe(Stage::Inbound, 4);
    let deadline = Instant::now() + DEADLINE;
    let (mut seen, mut patience) = (Vec::new(), Duration::ZERO);
    while seen.len() < 40 {
        assert!(Instant::now() < deadline, "only {seen:?} came");
        match timeout(patience, subscription.next()).await {
            Ok(delivery) => {
                delivery.settle(&[]).await.unwrap();
                seen.push(which(&delivery).1);
                patience = Duration::ZERO;
            }
            Err(_) => patience = (patience + Duration::from_micros(50)).min(Duration::from_millis(20)),
        }
    }
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
    subscription.close().await;
}

/// A settled message never comes again.
pub async fn settling_removes(fixture: &dyn BrokerFixture) {
    let broker = fixture.connect().await;
    broker.publish(&inbound(1, 0..3)).await.unwrap();
    let mut subscription = broker.subscribe(Stage::Inbound, 4);
    assert_eq!(settle_many(&mut subscription, 3).await, [(1, 0), (1, 1), (1, 2)]);
    subscription.close().await;
    assert_depths(&*broker, Depths::default()).await;
    let mut subscription = broker.subscribe(Stage::Inbound, 4);
    assert_silent(&mut subscription).await;
    subscription.close().await;
}

/// The effects of a delivery are in their queues once the delivery is off its own queue.
pub async fn effects_go_to_every_kind_of_destination(fixture: &dyn BrokerFixture) {
    let broker = fixture.connect().await;
    broker.publish(&inbound(1, 0..1)).await.unwrap();
    let mut subscription = broker.subscribe(Stage::Inbound, 4);
    let delivery = receive(&mut subscription).await;
    let to = |destination, number| Outgoing::new(destination, &text_from(1, number, "an effect"));
    let effects = [
        to(Destination::Work(Stage::Outbound), 10),
        to(Destination::Delayed(Stage::Inbound, Duration::from_secs(3600)), 11),
        to(Destination::Dead(Stage::Inbound, Reason::new(ReasonName::Permanent, "the assistant refused it")), 12),
        to(Destination::Work(Stage::Outbound), 13),
    ];
    delivery.settle(&effects).await.unwrap();
    subscription.close().await;
    assert_depths(&*broker, Depths { outbound: 2, delayed: 1, dead: 1, ..Depths::default() }).await;
    let mut sender = broker.subscribe(Stage::Outbound, 4);
    assert_eq!(settle_many(&mut sender, 2).await, [(1, 10), (1, 13)]);
    sender.close().await;
}

/// A subscriber gets a bounded number of messages, and more as it settles.
pub async fn prefetch_bounds_what_is_held(fixture: &dyn BrokerFixture) {
    let broker = fixture.connect().await;
    let bound = fixture.most_held(2);
    let count = u32::try_from(bound).unwrap() + 5;
    broker.publish(&inbound(1, 0..count)).await.unwrap();
    let mut subscription = broker.subscribe(Stage::Inbound, 2);
    let mut held = receive_many(&mut subscription, 1).await;
    while let Ok(delivery) = timeout(WATCH, subscription.next()).await {
        held.push(delivery);
        assert!(held.len() <= bound, "{} are held instead of {bound}", held.len());
    }
    for delivery in &held {
        delivery.settle(&[]).await.unwrap();
    }
    let mut seen: Vec<_> = held.iter().map(|delivery| which(delivery).1).collect();
    let rest = usize::try_from(count).unwrap() - seen.len();
    seen.extend(settle_many(&mut subscription, rest).await.into_iter().map(|(_, number)| number));
    assert_eq!(seen, (0..count).collect::<Vec<_>>());
    subscription.close().await;
}

/// Each kind of queue has its own count.
pub async fn depths_count_what_waits(fixture: &dyn BrokerFixture) {
    let broker = fixture.connect().await;
    assert_depths(&*broker, Depths::default()).await;
    let mut messages = inbound(1, 0..3);
    messages.extend((0..2).map(|number| work(Stage::Outbound, 2, number)));
    messages.push(work(Stage::Receipts, 3, 0));
    broker.publish(&messages).await.unwrap();
    assert_depths(&*broker, Depths { inbound: 3, outbound: 2, receipts: 1, ..Depths::default() }).await;
}

/// The check is a real publish, but no worker ever sees its message.
pub async fn the_check_passes_and_leaves_nothing(fixture: &dyn BrokerFixture) {
    let broker: Arc<_> = fixture.connect().await;
    for _ in 0..3 {
        broker.check().await.unwrap();
    }
    assert_depths(&*broker, Depths::default()).await;
}
