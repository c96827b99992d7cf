//! The handover from one subscriber to the next: from lost, stopping and competing ones.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::{
    Arc, Broker, BrokerFixture, DEADLINE, Delivery, Depths, Duration, Stage, assert_depths, assert_silent, inbound,
    receive, receive_many, settle_many, timeout, which, work,
};

/// A consumer disappears without closing, as a killed process does.
pub async fn a_lost_consumer_s_messages_come_again_first_and_in_order(fixture: &dyn BrokerFixture) {
    let (lost, next) = (fixture.connect().await, fixture.connect().await);
    lost.publish(&inbound(1, 0..6)).await.unwrap();
    let mut subscription = lost.subscribe(Stage::Inbound, 4);
    let held = receive_many(&mut subscription, 3).await;
    assert_eq!(held.iter().map(|delivery| which(delivery).1).collect::<Vec<_>>(), [0, 1, 2]);
    drop(subscription);
    drop(held);
    drop(lost);
    next.publish(&inbound(1, 6..8)).await.unwrap();
    let mut subscription = next.subscribe(Stage::Inbound, 4);
    for number in 0..8 {
        let delivery = receive(&mut subscription).await;
        assert_eq!(which(&delivery), (1, number));
        if number < 3 {
            assert!(delivery.redeliveries > 0, "text {number} was handed out before");
        }
        delivery.settle(&[]).await.unwrap();
    }
    subscription.close().await;
}

/// Giving a message back changes neither its payload nor its position.
pub async fn what_is_given_back_comes_first_unchanged_and_in_order(fixture: &dyn BrokerFixture) {
    let (one, other) = (fixture.connect().await, fixture.connect().await);
    let messages = inbound(1, 0..6);
    one.publish(&messages).await.unwrap();
    let mut subscription = one.subscribe(Stage::Inbound, 4);
    let held = receive_many(&mut subscription, 4).await;
    subscription.close().await;
    drop(held);
    let mut subscription = other.subscribe(Stage::Inbound, 4);
    for message in &messages {
        let delivery = receive(&mut subscription).await;
        assert_eq!(delivery.payload, message.payload);
        delivery.settle(&[]).await.unwrap();
    }
    assert_silent(&mut subscription).await;
    subscription.close().await;
}

/// A consumer settles some messages and closes. Another one gets the rest, and no settled message comes again.
pub async fn a_stopping_consumer_loses_nothing(fixture: &dyn BrokerFixture) {
    let (stopping, next) = (fixture.connect().await, fixture.connect().await);
    stopping.publish(&inbound(1, 0..30)).await.unwrap();
    let mut subscription = stopping.subscribe(Stage::Inbound, 8);
    let mut seen = settle_many(&mut subscription, 10).await;
    let held = receive_many(&mut subscription, 6).await;
    for delivery in held.iter().take(3) {
        delivery.settle(&[]).await.unwrap();
        seen.push(which(delivery));
    }
    subscription.close().await;
    drop(held);
    let mut subscription = next.subscribe(Stage::Inbound, 8);
    seen.extend(settle_many(&mut subscription, 17).await);
    assert_eq!(seen, (0..30).map(|number| (1, number)).collect::<Vec<_>>());
    assert_silent(&mut subscription).await;
    subscription.close().await;
    assert_depths(&*next, Depths::default()).await;
}

/// Two workers work at once. They never hold messages of the same conversation, and each conversation stays in order.
pub async fn only_one_subscriber_has_a_conversation_at_a_time(fixture: &dyn BrokerFixture) {
    const CUSTOMERS: u16 = 12;
    const TEXTS: u32 = 8;
    let watched = Arc::new(Watched::default());
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..2 {
        let (broker, watched) = (fixture.connect().await, Arc::clone(&watched));
        workers.spawn(async move { consume_watched(&*broker, worker, &watched).await });
    }
    let publisher = fixture.connect().await;
    for number in 0..TEXTS {
        let round: Vec<_> = (0..CUSTOMERS).map(|customer| work(Stage::Inbound, customer, number)).collect();
        publisher.publish(&round).await.unwrap();
    }
    let all = usize::from(CUSTOMERS) * usize::try_from(TEXTS).unwrap();
    let finished = async {
        while watched.settled.lock().unwrap().len() < all {
            watched.progress.notified().await;
        }
    };
    let in_time = timeout(DEADLINE, finished).await.is_ok();
    workers.abort_all();
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended {
            assert!(error.is_cancelled(), "a worker saw a conversation in both hands: {error}");
        }
    }
    assert!(in_time, "only {} of {all} were settled", watched.settled.lock().unwrap().len());
    for customer in 0..CUSTOMERS {
        let settled = watched.settled.lock().unwrap();
        let numbers: Vec<_> = settled.iter().filter(|(c, _)| *c == customer).map(|(_, number)| *number).collect();
        assert_eq!(numbers, (0..TEXTS).collect::<Vec<_>>(), "customer {customer}");
    }
}

/// The texts that two workers hold, and those that they finished.
#[derive(Default)]
struct Watched {
    /// By customer: the worker that holds the conversation, and the number of its texts.
    in_hand: Mutex<BTreeMap<u16, (usize, usize)>>,
    settled: Mutex<Vec<(u16, u32)>>,
    progress: tokio::sync::Notify,
}

async fn consume_watched(broker: &dyn Broker, worker: usize, watched: &Watched) {
    let mut subscription = broker.subscribe(Stage::Inbound, 3);
    loop {
        let mut batch = vec![subscription.next().await];
        while batch.len() < 3
            && let Ok(delivery) = timeout(Duration::from_millis(5), subscription.next()).await
        {
            batch.push(delivery);
        }
        for delivery in &batch {
            watched.take(worker, which(delivery).0);
        }
        for delivery in &batch {
            watched.finish(delivery);
            delivery.settle(&[]).await.unwrap();
            watched.progress.notify_one();
        }
    }
}

impl Watched {
    fn take(&self, worker: usize, customer: u16) {
        let mut in_hand = self.in_hand.lock().unwrap();
        let (holder, texts) = in_hand.entry(customer).or_insert((worker, 0));
        assert!(*texts == 0 || *holder == worker, "customer {customer} is in both hands");
        (*holder, *texts) = (worker, *texts + 1);
    }

    /// Records the end of the work. It comes before the broker may give the conversation to another worker.
    fn finish(&self, delivery: &Delivery) {
        let (customer, number) = which(delivery);
        self.in_hand.lock().unwrap().get_mut(&customer).expect("it was taken").1 -= 1;
        self.settled.lock().unwrap().push((customer, number));
    }
}

/// A second subscriber gets no messages of a conversation that the first one holds. It gets them when the first one
/// closes.
pub async fn a_second_subscriber_takes_over(fixture: &dyn BrokerFixture) {
    let (one, other) = (fixture.connect().await, fixture.connect().await);
    one.publish(&inbound(1, 0..3)).await.unwrap();
    let mut first = one.subscribe(Stage::Inbound, 1);
    let held = receive(&mut first).await;
    assert_eq!(which(&held), (1, 0));
    let mut second = other.subscribe(Stage::Inbound, 1);
    assert_silent(&mut second).await;
    let waiting = tokio::spawn(async move { (settle_many(&mut second, 3).await, second) });
    first.close().await;
    drop(held);
    let (seen, second) = timeout(DEADLINE, waiting).await.unwrap().unwrap();
    assert_eq!(seen, [(1, 0), (1, 1), (1, 2)]);
    second.close().await;
}

/// A worker that settles after its subscription closed gets no error, and no message is lost.
pub async fn settling_after_giving_back_is_no_error(fixture: &dyn BrokerFixture) {
    let broker = fixture.connect().await;
    broker.publish(&inbound(1, 0..2)).await.unwrap();
    let mut subscription = broker.subscribe(Stage::Inbound, 4);
    let held = receive_many(&mut subscription, 2).await;
    subscription.close().await;
    held[0].settle(&[]).await.unwrap();
    let mut subscription = broker.subscribe(Stage::Inbound, 4);
    let mut last = receive(&mut subscription).await;
    if which(&last) == (1, 0) {
        // The broker had taken the message back, and delivers it again.
        last.settle(&[]).await.unwrap();
        last = receive(&mut subscription).await;
    }
    assert_eq!(which(&last), (1, 1));
    last.settle(&[]).await.unwrap();
    subscription.close().await;
    assert_depths(&*broker, Depths::default()).await;
}
