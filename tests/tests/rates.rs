//! A number that may send, sends: many replies of one number leave RabbitMQ at its rate, without pauses of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "its figures are for people")]

use std::sync::Arc;
use std::time::Duration;

use broker::rabbitmq::RabbitMq;
use broker::{self, Broker, Destination, Outgoing, Stage, Topology};
use integration::{AssistantSettings, Integration, Integrations, Options, ScriptedSettings};
use message::clock::Clock;
use message::shutdown::Shutdown;
use message::{Address, Body, Conversation, Envelope, IntegrationId, MessageId, Part, SCHEMA};
use providers::ProviderSettings;
use providers::twilio::TwilioSettings;
use sender::{Deliverer, Pace};
use simulator::{Fault, Route, Simulator, SimulatorConfig};
use store::redis::RedisStore;
use tests::house::await_broker;
use tests::logs::log_if_asked;
use tests::servers;
use tokio::time::sleep;
use uuid::Uuid;
use work::RunOptions;
use work::{Ports, StageProgress};

const OURS: &str = "+12125550100";
const RATE_PER_SECOND: f64 = 2.0;
/// The longest time in seconds without a send while parts are due.
const LONGEST_GAP_S: f64 = 3.0;

fn integration(twilio: TwilioSettings) -> Integration {
    Integration {
        id: IntegrationId::parse("support").unwrap(),
        numbers: Vec::new(),
        provider: ProviderSettings::Twilio(twilio),
        assistant: AssistantSettings::Scripted(ScriptedSettings::default()),
        options: Options { rate_per_second: RATE_PER_SECOND, ..Options::default() },
    }
}

/// The outgoing replies of one number.
#[derive(Debug, Clone, Copy)]
struct Replies {
    count: usize,
    /// The number of conversations that they are spread over.
    conversations: usize,
    /// The time whose worth of sends may go at once.
    burst: Duration,
    /// The number of sends after which the provider throttles the number once, and the length of the throttling in
    /// seconds.
    throttled: Option<(usize, u64)>,
}

impl Replies {
    fn part(self, index: usize, accepted_at: message::clock::Timestamp) -> Envelope {
        let integration = IntegrationId::parse("support").unwrap();
        let turn = MessageId::of_provider(&integration, &format!("SM{index}"));
        let customer = format!("+1303555{:04}", index % self.conversations);
        let number = |text: &str| Address::parse(text).unwrap();
        Envelope {
            schema: SCHEMA,
            id: turn.derive("part/0"),
            integration,
            conversation: Conversation::new(number(&customer), number(OURS)),
            accepted_at,
            attempts: Vec::new(),
            replays: Vec::new(),
            trace: String::new(),
            body: Body::Part(Part { turn, index: 0, text: index.to_string().as_str().into(), media: Vec::new() }),
        }
    }

    /// Sends all replies, and asserts that they leave within 1.1 times the ideal time.
    async fn leave_in_time(self) {
        log_if_asked();
        let metrics = operations::metrics_recorder().expect("no other recorder is there");
        let mut config = SimulatorConfig::demo();
        config.receipts.steps.clear();
        let account = config.twilio.clone();
        let simulator = Simulator::start(config).await.unwrap();
        let integration = integration(TwilioSettings {
            base_url: simulator.url().to_owned(),
            ..TwilioSettings::new(account.account_sid, vec![account.auth_token.into()])
        });
        let prefix = format!("rates-{}", Uuid::new_v4().simple());
        let urls = vec![servers::shared_amqp_url().into()];
        let broker = Arc::new(RabbitMq::new(urls, Topology::new(prefix.as_str(), 4)));
        let store = Arc::new(RedisStore::new(&servers::shared_redis_url().into(), &prefix).unwrap());
        let clock = Clock::system();
        let ports = Ports {
            broker: broker.clone(),
            store,
            clock: clock.clone(),
            progress: StageProgress::default(),
            heartbeats: None,
        };
        let parts = (0..self.count)
            .map(|index| Outgoing::new(Destination::Work(Stage::Outbound), &self.part(index, clock.now())));
        await_broker(broker.as_ref()).await;
        broker.publish(&parts.collect::<Vec<_>>()).await.unwrap();

        let shutdown = Shutdown::new(Duration::from_secs(5));
        let integrations: Integrations = [integration].into_iter().collect();
        let pace = Pace { burst: self.burst, ..Pace::default() };
        let deliverer = Deliverer::new(&integrations, None, &ports, shutdown.clone(), pace).unwrap();
        let options = RunOptions {
            concurrency: 64,
            progress: ports.progress.of(Stage::Outbound),
            store: Some(ports.store.clone()),
            heartbeats: None,
        };
        let sending = tokio::spawn(work::run(broker, Stage::Outbound, Arc::new(deliverer), options, shutdown.clone()));
        self.watch(&simulator).await;
        shutdown.start();
        sending.await.unwrap();
        self.judge(&simulator);
        self.is_told(&metrics.render());
    }

    /// Asserts that the metrics count the parts that waited, by the cause of their wait.
    fn is_told(self, metrics: &str) {
        for cause in self.throttled.map(|_| "throttle").into_iter().chain(["rate"]) {
            let counted = format!("\nswitchboard_parked_total{{cause=\"{cause}\"}} ");
            assert!(metrics.contains(&counted), "{counted} is not in {metrics}");
        }
    }

    async fn watch(self, simulator: &Simulator) {
        let mut throttled = self.throttled;
        let mut last = (0, tokio::time::Instant::now());
        loop {
            let sent = simulator.messages().len();
            if let Some((_, pause_s)) = throttled.filter(|(after, _)| sent >= *after) {
                simulator.fail(Route::TwilioSend, Fault::retry_after(429, pause_s));
                throttled = None;
            }
            if sent >= self.count {
                return;
            }
            if sent > last.0 {
                last = (sent, tokio::time::Instant::now());
            }
            assert!(last.1.elapsed() < Duration::from_secs(120), "{sent} of {} were sent", self.count);
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn judge(self, simulator: &Simulator) {
        let calls = simulator.requests().into_iter().filter(|call| call.route == Some(Route::TwilioSend));
        let mut at: Vec<_> = calls.map(|call| call.at).collect();
        at.sort_unstable();
        let pause_s = self.throttled.map_or(0.0, |(_, pause_s)| pause_s as f64);
        let ideal_s = (self.count - 1) as f64 / RATE_PER_SECOND - self.burst.as_secs_f64() + pause_s;
        let since = |pair: (usize, usize)| at[pair.1].duration_since(at[pair.0]).as_secs_f64();
        let took_s = since((0, at.len() - 1));
        let gap_s = (1..at.len()).map(|index| since((index - 1, index))).fold(0.0, f64::max);
        eprintln!("{self:?}: {took_s:.1} s, ideally {ideal_s:.1} s; idle for {gap_s:.2} s at most");
        assert!(took_s <= 1.1 * ideal_s, "{took_s} s instead of {ideal_s} s");
        assert!(took_s >= ideal_s - 1.0, "{took_s} s: faster than the number may");
        assert!(gap_s < pause_s + LONGEST_GAP_S, "nothing went for {gap_s} s");
        let mut words: Vec<usize> = simulator.messages().iter().map(|message| message.body.parse().unwrap()).collect();
        words.sort_unstable();
        assert_eq!(words, (0..self.count).collect::<Vec<_>>(), "each once");
    }
}

const FEW: Replies = Replies { count: 80, conversations: 80, burst: Duration::from_secs(5), throttled: None };

#[tokio::test]
async fn b3_replies_of_one_number_leave_at_its_rate() {
    FEW.leave_in_time().await;
}

#[tokio::test]
async fn b3_several_replies_of_each_conversation_leave_at_their_numbers_rate() {
    Replies { conversations: 9, ..FEW }.leave_in_time().await;
}

#[tokio::test]
async fn b3_replies_of_a_number_that_was_throttled_leave_at_its_rate() {
    Replies { throttled: Some((30, 7)), ..FEW }.leave_in_time().await;
}

const MANY: Replies = Replies { count: 600, conversations: 600, burst: Duration::from_secs(60), throttled: None };

#[tokio::test]
#[ignore = "takes four minutes"]
async fn b3_600_replies_of_one_number_leave_at_its_rate() {
    MANY.leave_in_time().await;
}

#[tokio::test]
#[ignore = "takes five minutes"]
async fn b3_600_replies_of_a_number_that_was_throttled_leave_at_its_rate() {
    Replies { conversations: 100, throttled: Some((300, 20)), ..MANY }.leave_in_time().await;
}
