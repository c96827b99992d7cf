//! A whole Switchboard in this process: the real ingress, workers and sender on real HTTP, with the simulator as
//! provider, assistant, phone and judge. On servers each role has its own connections, as separate processes would.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use broker::dead_letters::DeadLetters;
use broker::{Broker, DEFAULT_PARTITIONS, Depths, Stage, Topology};
use config::{BrokerUrl, Config, QueueConfig, StoreUrl};
use integration::{
    AssistantAuth, AssistantSettings, Integration, Options, ScriptedSettings, WatsonxLocation, WatsonxSettings,
};
use message::clock::Clock;
use message::shutdown::Shutdown;
use message::{Address, Conversation, IntegrationId};
use operations::{self, Health};
use providers::ProviderSettings;
use providers::intelepeer::{IntelepeerAuth, IntelepeerSettings};
use providers::twilio::TwilioSettings;
use secrecy::ExposeSecret as _;
use simulator::{Message, Phone, Simulator, SimulatorConfig, Text, WebhookAnswer};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinHandle};
use work::Rhythm;
use work::spool_status::{Intake, SpoolState};
use work::{Ports, StageProgress};

use crate::logs::log_if_asked;
use crate::servers;

/// The longest wait of a test: long enough for a busy machine, short enough to notice that something hangs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The parameters of a house.
#[derive(Debug, Clone)]
pub struct Blueprint {
    /// The backend that holds the queues and records.
    pub backend: Backend,
    /// The provider that carries the texts.
    pub provider: Provider,
    /// The numbers of the integration; an empty list accepts any number.
    pub numbers: Vec<&'static str>,
    /// The assistant that answers.
    pub assistant: Assistant,
    /// The number of workers.
    pub workers: usize,
    /// The number of senders.
    pub senders: usize,
    /// The number of turns that each worker takes at a time, and of calls that each sender makes at a time.
    pub concurrency: usize,
    /// The most messages in a queue.
    pub max_length: u32,
    /// The clock of every role.
    pub clock: Clock,
    /// The integration's options.
    pub options: Options,
    /// The most bytes that ingress may spool.
    pub spool_limit_bytes: u64,
    /// The rhythm of the heartbeats in the queues; `None` turns them off, so that a test can count messages.
    pub heartbeats: Option<Rhythm>,
    /// The time after which a stuck stage fails liveness.
    pub dead_after: Duration,
    /// The URLs by which a provider may know ingress, in addition to its address.
    pub more_public_urls: Vec<String>,
}

/// The backend that holds the queues and records.
#[derive(Debug, Clone)]
pub enum Backend {
    /// A file in a temporary directory.
    Embedded,
    /// RabbitMQ and Redis.
    Servers {
        /// RabbitMQ's URLs, one for each node.
        amqp: Vec<String>,
        /// Redis's URL.
        redis: String,
    },
}

impl Backend {
    /// The servers that the tests of this process share.
    #[must_use]
    pub fn shared_servers() -> Self {
        Self::Servers {
            amqp: vec![servers::shared_amqp_url().to_owned()],
            redis: servers::shared_redis_url().to_owned(),
        }
    }
}

/// The provider that carries the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Simulated Twilio.
    Twilio,
    /// Simulated IntelePeer, with user name and password.
    Intelepeer,
}

/// The assistant that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assistant {
    /// The built-in dialogue.
    Scripted,
    /// Simulated watsonx Assistant, on the newer paths with an API key.
    Watsonx,
}

impl Blueprint {
    /// One worker, Twilio and simulated watsonx on `backend`.
    #[must_use]
    pub fn new(backend: Backend) -> Self {
        // A test sends faster than a carrier would allow.
        let options = Options { rate_per_second: 1000.0, ..Options::default() };
        let clock = Clock::system();
        Self {
            backend,
            provider: Provider::Twilio,
            numbers: Vec::new(),
            assistant: Assistant::Watsonx,
            workers: 1,
            senders: 1,
            concurrency: 64,
            max_length: 1_000_000,
            clock,
            options,
            spool_limit_bytes: 1 << 30,
            heartbeats: None,
            dead_after: Duration::from_secs(600),
            more_public_urls: Vec::new(),
        }
    }

    fn config(&self, directory: &Path, url: &str, integration: Integration) -> Config {
        let mut config = Config::embedded(directory.to_owned(), vec![integration]);
        config.ingress.public_urls = vec![url.to_owned()];
        config.ingress.public_urls.extend_from_slice(&self.more_public_urls);
        config.broker.prefix = format!("house-{}", uuid::Uuid::new_v4().simple());
        config.broker.partitions = Some(4);
        config.broker.max_length = self.max_length;
        config.store.prefix.clone_from(&config.broker.prefix);
        config.ingress.spool_limit_bytes = self.spool_limit_bytes;
        config.worker.concurrency = self.concurrency;
        config.sender.concurrency = self.concurrency;
        config.shutdown_grace = Duration::from_secs(10);
        config.operations.dead_after = self.dead_after;
        if let Backend::Servers { amqp, redis } = &self.backend {
            config.broker.url = BrokerUrl::Amqp(amqp.iter().map(|url| url.as_str().into()).collect());
            config.store.url = StoreUrl::Redis(redis.as_str().into());
        }
        config
    }
}

/// A running Switchboard.
#[derive(Debug)]
pub struct House {
    /// The provider, the assistant, the phone and the judge's data.
    pub simulator: Simulator,
    /// Our number.
    pub number: String,
    /// The base URL of ingress, without a trailing slash.
    pub url: String,
    /// The base URL of health and metrics, without a trailing slash.
    pub operations_url: String,
    /// A separate connection to the queues and records.
    pub ports: Ports,
    config: Config,
    shutdown: Shutdown,
    intake: Arc<Intake>,
    ingress: Option<(Shutdown, JoinHandle<()>)>,
    roles: Vec<JoinHandle<()>>,
    /// The messages that each worker and sender holds, and whether it still runs.
    progress: Vec<(AbortHandle, StageProgress)>,
    _directory: TempDir,
}

impl House {
    /// Builds and opens a house.
    ///
    /// # Panics
    /// When the house cannot be built.
    pub async fn open(blueprint: Blueprint) -> Self {
        log_if_asked();
        let simulator = Simulator::start(SimulatorConfig::demo()).await.expect("the simulator starts");
        let ingress = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let operations = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", ingress.local_addr().expect("it is bound"));
        let operations_url = format!("http://{}", operations.local_addr().expect("it is bound"));
        let (provider, number) = provider(blueprint.provider, &simulator);
        simulator.set_webhook(&number, &format!("{url}/webhooks/support/messages"));
        let directory = tempfile::tempdir().expect("a directory can be made");
        let integration = Integration {
            id: IntegrationId::parse("support").expect("it is an id"),
            numbers: blueprint.numbers.iter().map(|it| Address::parse(it).expect("it is an address")).collect(),
            provider,
            assistant: assistant(blueprint.assistant, &simulator),
            options: blueprint.options.clone(),
        };
        let config = blueprint.config(directory.path(), &url, integration);
        let ports = ports::open(&config, blueprint.clock).expect("the ports open");
        let ports = Ports { heartbeats: blueprint.heartbeats, ..ports };
        let shutdown = Shutdown::new(config.shutdown_grace);
        let mut house = Self {
            simulator,
            number,
            url,
            operations_url,
            ports,
            config,
            shutdown,
            intake: Arc::default(),
            ingress: None,
            roles: Vec::new(),
            progress: Vec::new(),
            _directory: directory,
        };
        house.start_roles(ingress, operations).await;
        (0..blueprint.workers).for_each(|_| drop(house.add_worker()));
        (0..blueprint.senders).for_each(|_| drop(house.add_sender()));
        house
    }

    async fn start_roles(&mut self, ingress: TcpListener, operations: TcpListener) {
        let (ports, shutdown) = (self.role_ports(), self.shutdown.clone());
        await_broker(ports.broker.as_ref()).await;
        let health = Health {
            broker: Arc::clone(&self.ports.broker),
            intake: Some(Arc::clone(&self.intake)),
            store: Some(Arc::clone(&self.ports.store)),
            stages: Stage::ALL.map(|stage| (stage, self.ports.progress.of(stage))).into(),
            clock: self.ports.clock.clone(),
            dead_after: self.config.operations.dead_after,
        };
        self.roles.push(tokio::spawn(operations::serve(operations, health, shutdown)));
        self.start_ingress(ingress, ports);
    }

    fn start_ingress(&mut self, listener: TcpListener, ports: Ports) {
        let (config, intake, shutdown) = (self.config.clone(), Arc::clone(&self.intake), self.shutdown.child());
        let stop = shutdown.clone();
        let running = tokio::spawn(async move {
            let run = ingress::run(listener, &config, ports.broker, ports.clock, intake, shutdown);
            run.await.expect("ingress runs");
        });
        self.ingress = Some((stop, running));
    }

    /// Stops ingress as a signal would, and starts another one at the same address.
    ///
    /// # Panics
    /// When it does not stop, or its address is taken.
    pub async fn restart_ingress(&mut self) {
        self.stop_ingress().await;
        let address = self.url.trim_start_matches("http://");
        let listener = TcpListener::bind(address).await.expect("the address is free again");
        let ports = self.role_ports();
        self.start_ingress(listener, ports);
    }

    async fn stop_ingress(&mut self) {
        let Some((stop, running)) = self.ingress.take() else { return };
        stop.start();
        tokio::time::timeout(DEADLINE, running).await.expect("ingress stops in time").expect("ingress ends well");
    }

    /// Starts one more worker, which can be stopped on its own.
    pub fn add_worker(&mut self) -> Shutdown {
        let (config, ports, shutdown) = (self.config.clone(), self.role_ports(), self.shutdown.child());
        let stop = shutdown.clone();
        let progress = ports.progress.clone();
        let running = tokio::spawn(async move {
            worker::run(&config, ports, shutdown).await.expect("the worker runs");
        });
        self.progress.push((running.abort_handle(), progress));
        self.roles.push(running);
        stop
    }

    /// Starts one more sender, which can be stopped on its own.
    pub fn add_sender(&mut self) -> Shutdown {
        let (config, ports, shutdown) = (self.config.clone(), self.role_ports(), self.shutdown.child());
        let (stop, progress) = (shutdown.clone(), ports.progress.clone());
        let running = tokio::spawn(async move {
            sender::run(&config, ports, shutdown).await.expect("the sender runs");
        });
        self.progress.push((running.abort_handle(), progress));
        self.roles.push(running);
        stop
    }

    /// A configuration file that names only the backend of the queues, as an operator may have it.
    #[must_use]
    pub fn queue_configuration(&self) -> String {
        let broker = &self.config.broker;
        let url = match &broker.url {
            BrokerUrl::Embedded => "embedded",
            BrokerUrl::Amqp(nodes) => nodes[0].expose_secret(),
        };
        format!(
            "data_dir = {:?}\n[broker]\nurl = {url:?}\nprefix = {:?}\npartitions = {}\nmax_length = {}\n",
            self.config.data_dir,
            broker.prefix,
            broker.partitions.unwrap_or(DEFAULT_PARTITIONS),
            broker.max_length
        )
    }

    /// The queue of one partition of `stage`.
    #[must_use]
    pub fn queue(&self, stage: Stage, partition: u16) -> String {
        Topology::new(self.config.broker.prefix.as_str(), self.config.broker.partitions.unwrap_or(DEFAULT_PARTITIONS))
            .queue(stage, partition)
    }

    /// The status and the body of the operations listener's answer at `path`.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn ask(&self, path: &str) -> (u16, String) {
        let client = providers::http_client::client(DEADLINE).expect("a client can be made");
        let answer = client.get(format!("{}{path}", self.operations_url)).send().await.expect("it answers");
        (answer.status().as_u16(), answer.text().await.expect("it answers with text"))
    }

    /// A connection to the dead letters.
    ///
    /// # Panics
    /// When they cannot be reached.
    #[must_use]
    pub fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        let config = QueueConfig { data_dir: self.config.data_dir.clone(), broker: self.config.broker.clone() };
        ports::dead_letters(&config, self.ports.clock.clone()).expect("the dead letters open")
    }

    /// The queue of `stage` for the texts of `customer`, or for the replies to them.
    ///
    /// # Panics
    /// When `customer` is not a number.
    #[must_use]
    pub fn queue_of(&self, customer: &str, stage: Stage) -> String {
        let number = |number: &str| Address::parse(number).expect("it is a number");
        let integration = &self.config.integrations.iter().next().expect("there is one").id;
        let key = Conversation::new(number(customer), number(&self.number)).key(integration);
        self.queue(stage, key.partition(self.config.broker.partitions.unwrap_or(DEFAULT_PARTITIONS)))
    }

    fn role_ports(&self) -> Ports {
        match self.config.broker.url {
            BrokerUrl::Embedded => self.ports.clone(),
            BrokerUrl::Amqp(_) => {
                let opened = ports::open(&self.config, self.ports.clock.clone()).expect("the ports open");
                Ports { progress: self.ports.progress.clone(), heartbeats: self.ports.heartbeats, ..opened }
            }
        }
    }

    /// Texts `body` as `customer` and returns how the webhook answered.
    ///
    /// # Panics
    /// When the text is not accepted.
    pub async fn text(&self, customer: &str, body: &str) -> WebhookAnswer {
        let answer = self.simulator.phone().text(customer, &self.number, body).await.expect("the webhook answers");
        assert!(matches!(answer.status, 200 | 204), "not accepted: {answer:?}");
        answer
    }

    /// The bodies of the first `count` replies to `customer`, once they have come.
    ///
    /// # Panics
    /// When they do not come in time.
    pub async fn replies(&self, customer: &str, count: usize) -> Vec<String> {
        match self.simulator.phone().wait_for_replies(customer, count, DEADLINE).await {
            Ok(replies) => replies.into_iter().map(|reply| reply.body).collect(),
            Err(late) => panic!("{late}; the depths are {:?}", self.ports.broker.depths().await),
        }
    }

    /// All texts that the provider accepted for `customer` so far.
    #[must_use]
    pub fn sent_to(&self, customer: &str) -> Vec<Message> {
        self.simulator.phone().replies(customer)
    }

    /// Waits until the depths of the queues are as `wanted` demands.
    ///
    /// # Panics
    /// When they are not so in time.
    pub async fn await_depths(&self, wanted: impl Fn(&Depths) -> bool) -> Depths {
        let reached = async {
            loop {
                if let Some(depths) = self.ports.broker.depths().await.ok().filter(&wanted) {
                    return depths;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let reached = tokio::time::timeout(DEADLINE, reached).await;
        match reached {
            Ok(depths) => depths,
            Err(_) => panic!("the depths stayed at {:?}", self.ports.broker.depths().await),
        }
    }

    /// Stops every role and asserts that the queues hold nothing but `dead` dead letters: the conservation law.
    ///
    /// # Panics
    /// When other messages are left, or a role failed.
    pub async fn close(mut self, dead: u64) {
        self.await_receipts().await;
        self.await_empty_spool().await;
        // RabbitMQ's counts do not include the messages that a role holds.
        let held = |(role, progress): &(AbortHandle, StageProgress)| match role.is_finished() {
            true => 0,
            false => Stage::ALL.map(|stage| progress.of(stage).held().messages).iter().sum::<u64>(),
        };
        let nothing_left = |depths: &Depths| depths.inbound + depths.outbound + depths.receipts + depths.delayed == 0;
        let progress = std::mem::take(&mut self.progress);
        self.await_depths(|depths| nothing_left(depths) && progress.iter().map(held).sum::<u64>() == 0).await;
        self.shutdown.start();
        self.stop_ingress().await;
        for role in self.roles {
            tokio::time::timeout(DEADLINE, role).await.expect("the role stops in time").expect("the role ends well");
        }
        let depths = self.ports.broker.depths().await.expect("the broker answers");
        assert_eq!(depths, Depths { dead, ..Depths::default() }, "what is left when all roles have stopped");
    }
}

impl House {
    async fn await_empty_spool(&self) {
        let empty = async {
            while !matches!(self.intake.spool(), SpoolState::Off | SpoolState::Idle) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, empty).await.expect("the spool is drained in time");
    }

    /// Waits until the provider has sent both reports on every text that it accepted: sent, then delivered.
    async fn await_receipts(&self) {
        let all_told = async {
            loop {
                let asked = self.simulator.messages().iter().filter(|sent| sent.status_callback.is_some()).count();
                if self.simulator.callbacks().len() >= 2 * asked {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, all_told).await.expect("every receipt is posted in time");
    }
}

/// Texts `body` as `customer` until it is accepted, as a provider's retries or a customer would. Every attempt has the
/// same id.
///
/// # Panics
/// When it is not accepted in time.
pub async fn text_until_accepted(phone: &Phone, number: &str, customer: &str, body: &str) {
    let sid = format!("SM{}", uuid::Uuid::new_v4().simple());
    let text = Text::new(customer, number, body).with_id(sid);
    let accepted = async {
        loop {
            let answer = phone.send(text.clone()).await.expect("the webhook answers");
            match answer.status {
                200 | 204 => return,
                503 => tokio::time::sleep(Duration::from_millis(50)).await,
                status => panic!("the webhook answered {status}: {}", answer.body),
            }
        }
    };
    tokio::time::timeout(DEADLINE, accepted).await.expect("the text is accepted in time");
}

/// Waits until a publish would be confirmed, as a load balancer waits for readiness.
pub async fn await_broker(broker: &dyn Broker) {
    let ready = async {
        while broker.check().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, ready).await.expect("the broker is there in time");
}

fn provider(provider: Provider, simulator: &Simulator) -> (ProviderSettings, String) {
    let accounts = SimulatorConfig::demo();
    match provider {
        Provider::Twilio => {
            let settings = TwilioSettings {
                base_url: simulator.url().to_owned(),
                ..TwilioSettings::new(accounts.twilio.account_sid, vec![accounts.twilio.auth_token.into()])
            };
            (ProviderSettings::Twilio(settings), accounts.twilio.numbers[0].number.clone())
        }
        Provider::Intelepeer => {
            let account = accounts.intelepeer;
            let auth = IntelepeerAuth::Login { username: account.username, password: account.password.into() };
            let settings = IntelepeerSettings {
                base_url: simulator.url().to_owned(),
                login_url: simulator.url().to_owned(),
                ..IntelepeerSettings::new(vec![account.secret.into()], auth)
            };
            (ProviderSettings::Intelepeer(settings), account.numbers[0].number.clone())
        }
    }
}

fn assistant(assistant: Assistant, simulator: &Simulator) -> AssistantSettings {
    let instance = SimulatorConfig::demo().watsonx;
    match assistant {
        Assistant::Scripted => AssistantSettings::Scripted(ScriptedSettings::default()),
        Assistant::Watsonx => {
            let location = WatsonxLocation {
                url: format!("{}/instances/test", simulator.url()),
                assistant_id: instance.assistant_id,
                environment_id: Some(instance.environment_id),
                version: "2024-08-25".to_owned(),
                auth: AssistantAuth::ApiKey(instance.api_keys[0].clone().into()),
            };
            let settings = WatsonxSettings {
                timeout: Duration::from_secs(5),
                retries: 1,
                retry_interval: Duration::from_millis(50),
                ..WatsonxSettings::new(vec![location])
            };
            AssistantSettings::Watsonx(Box::new(settings))
        }
    }
}
