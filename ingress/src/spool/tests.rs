//! The spool on a real disk, with a broker that does what the test says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::SeqCst};

use async_trait::async_trait;
use broker::{Broker, Depths, Stage, Subscription};
use message::shutdown::Shutdown;
use message::{Address, Body, Conversation, Envelope, Inbound, IntegrationId, MessageId, SCHEMA};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::watch;
use work::spool_status::SpoolState;

use super::*;
use crate::durable::Durable;

const MIB: u64 = 1 << 20;
const DEADLINE: Duration = Duration::from_secs(30);

/// A broker that takes messages unless it is away, and refuses every `n`th call after taking some of its messages.
#[derive(Debug)]
struct Tray {
    taken: Mutex<Vec<(u16, u32)>>,
    is_away: AtomicBool,
    hangs: AtomicBool,
    /// Whose messages it refuses, and whose it never answers.
    refused: AtomicU16,
    ignored: AtomicU16,
    refuse_every: usize,
    calls: watch::Sender<usize>,
}

impl Tray {
    fn new(is_away: bool, refuse_every: usize) -> Arc<Self> {
        let calls = watch::Sender::new(0);
        Arc::new(Self {
            taken: Mutex::default(),
            is_away: is_away.into(),
            hangs: false.into(),
            refused: u16::MAX.into(),
            ignored: u16::MAX.into(),
            refuse_every,
            calls,
        })
    }

    /// The numbers of each customer in the order in which they were first taken.
    fn taken(&self) -> BTreeMap<u16, Vec<u32>> {
        let mut numbers = BTreeMap::<u16, Vec<u32>>::new();
        let mut seen = BTreeSet::new();
        for (customer, number) in self.taken.lock().unwrap().iter() {
            if seen.insert((*customer, *number)) {
                numbers.entry(*customer).or_default().push(*number);
            }
        }
        numbers
    }
}

#[async_trait]
impl Broker for Tray {
    async fn publish(&self, messages: &[Outgoing]) -> Result<(), Failure> {
        let mut call = 0;
        self.calls.send_modify(|calls| {
            *calls += 1;
            call = *calls;
        });
        // Some calls take longer than those that begin after them.
        tokio::time::sleep(Duration::from_millis(u64::try_from(call * 7 % 5).unwrap())).await;
        let ignored = self.ignored.load(SeqCst);
        if self.hangs.load(SeqCst) || messages.iter().any(|message| read(message).0 == ignored) {
            std::future::pending::<()>().await;
        }
        let refused = self.refused.load(SeqCst);
        if self.is_away.load(SeqCst) || messages.iter().any(|message| read(message).0 == refused) {
            return Err(Failure::transient("away"));
        }
        let is_refused = self.refuse_every > 0 && call % self.refuse_every == 0;
        // The worst that a refusal may leave behind: everything but the first was taken.
        let skipped = usize::from(is_refused);
        self.taken.lock().unwrap().extend(messages.iter().skip(skipped).map(read));
        if is_refused { Err(Failure::transient("refused")) } else { Ok(()) }
    }

    fn subscribe(&self, _: Stage, _: u16) -> Box<dyn Subscription> {
        unreachable!("nobody consumes here")
    }

    async fn depths(&self) -> Result<Depths, Failure> {
        Ok(Depths::default())
    }

    async fn check(&self) -> Result<(), Failure> {
        if self.hangs.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.is_away.load(SeqCst) { Err(Failure::transient("away")) } else { Ok(()) }
    }
}

fn text(customer: u16, number: u32) -> Outgoing {
    let integration = IntegrationId::parse("support").unwrap();
    let phone = |text: String| Address::parse(&text).unwrap();
    let provider_message_id = format!("{customer}-{number}");
    let envelope = Envelope {
        schema: SCHEMA,
        id: MessageId::of_provider(&integration, &provider_message_id),
        integration,
        conversation: Conversation::new(phone(format!("+1303555{customer:04}")), phone("+17205550100".to_owned())),
        accepted_at: message::clock::Timestamp::UNIX_EPOCH,
        attempts: Vec::new(),
        replays: Vec::new(),
        trace: String::new(),
        body: Body::Inbound(Inbound {
            provider_message_id,
            text: "x".repeat(100).as_str().into(),
            media: Vec::new(),
            joined: Vec::new(),
        }),
    };
    Outgoing::new(Destination::Work(Stage::Inbound), &envelope)
}

fn read(message: &Outgoing) -> (u16, u32) {
    let envelope = Envelope::decode(&message.payload).unwrap();
    assert_eq!((message.id, message.key), (Some(envelope.id), Some(envelope.key())), "as it was before");
    let Body::Inbound(inbound) = envelope.body else { unreachable!("only texts were spooled") };
    let (customer, number) = inbound.provider_message_id.split_once('-').unwrap();
    (customer.parse().unwrap(), number.parse().unwrap())
}

/// A spool, and all that it takes to use one.
struct Ground {
    spool: Spool,
    thread: WriterThread,
    intake: Arc<Intake>,
}

impl Ground {
    fn open(dir: &TempDir, limit_bytes: u64) -> Self {
        let intake = Arc::<Intake>::default();
        let clock = Clock::from_fn(|| message::clock::Timestamp::UNIX_EPOCH);
        let (spool, thread) = Spool::open(dir.path(), limit_bytes, Arc::clone(&intake), clock).unwrap();
        Self { spool, thread, intake }
    }

    async fn close(self) {
        self.spool.close(self.thread).await;
    }

    /// Publishes everything to `broker`, which is not away.
    async fn drain(&self, broker: &Arc<Tray>) {
        let stop = Shutdown::new(Duration::ZERO);
        let drain = Drain::new(self.spool.clone(), Arc::clone(broker) as Arc<dyn Broker>).run(stop.clone());
        let empty = async {
            let mut calls = broker.calls.subscribe();
            while self.intake.spool() != SpoolState::Idle {
                drop(tokio::time::timeout(Duration::from_millis(20), calls.changed()).await);
            }
            stop.start();
        };
        tokio::time::timeout(DEADLINE, async { tokio::join!(drain, empty) }).await.expect("it is drained in time");
    }
}

fn segments(dir: &TempDir, slot: &str) -> Vec<PathBuf> {
    let dir = directory(dir.path()).join(slot);
    segment::list(&dir).unwrap().into_iter().map(|number| segment::path(&dir, number)).collect()
}

/// Ingress must not go on without the writer: messages in the spool would not be published, and new ones of their
/// conversations would be refused.
#[tokio::test]
async fn g1_who_tends_a_spool_is_told_that_its_writer_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let ground = Ground::open(&dir, 64 * MIB);
    ground.spool.commands.send(Command::Close).await.unwrap();
    tokio::time::timeout(DEADLINE, ground.spool.tend()).await.expect("it is told");
    ground.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_nothing_is_lost_or_overtaken_while_the_broker_comes_and_goes() {
    const CUSTOMERS: u16 = 24;
    const TEXTS: u32 = 60;
    let dir = tempfile::tempdir().unwrap();
    let ground = Ground::open(&dir, 64 * MIB);
    let broker = Tray::new(false, 7);
    let durable = Arc::new(Durable::new(Arc::clone(&broker) as Arc<dyn Broker>, Some(ground.spool.clone())));
    let stop = Shutdown::new(Duration::ZERO);
    let drain = Drain::new(ground.spool.clone(), Arc::clone(&broker) as Arc<dyn Broker>).run(stop.clone());
    let drain = tokio::spawn(drain);
    let texting = (0..CUSTOMERS).map(|customer| {
        let (durable, broker) = (Arc::clone(&durable), Arc::clone(&broker));
        tokio::spawn(async move {
            for number in (0..TEXTS).step_by(3) {
                // Customer 0 switches the broker off and on, so that each change meets traffic.
                if customer == 0 {
                    broker.is_away.fetch_not(SeqCst);
                }
                // Three that arrive in order, each while those before it are under way.
                let keep = |number| durable.keep(text(customer, number));
                let kept = tokio::join!(biased; keep(number), keep(number + 1), keep(number + 2));
                assert!(matches!(kept, (Ok(()), Ok(()), Ok(()))), "{kept:?}");
            }
        })
    });
    for customer in texting.collect::<Vec<_>>() {
        customer.await.unwrap();
    }
    broker.is_away.fetch_and(false, SeqCst);
    stop.start();
    tokio::time::timeout(DEADLINE, drain).await.expect("it ends").unwrap();
    ground.drain(&broker).await;
    let expected: Vec<u32> = (0..TEXTS).collect();
    let taken = broker.taken();
    assert_eq!(taken.len(), usize::from(CUSTOMERS));
    for (customer, numbers) in taken {
        assert_eq!(numbers, expected, "customer {customer}");
    }
    assert!(segments(&dir, "0").is_empty(), "what is drained is deleted");
    ground.close().await;
}

#[tokio::test]
async fn g1_a_broker_that_takes_too_long_is_waited_for_once() {
    let dir = tempfile::tempdir().unwrap();
    let ground = Ground::open(&dir, MIB);
    let broker = Tray::new(false, 0);
    let durable = Durable::new(Arc::clone(&broker) as Arc<dyn Broker>, Some(ground.spool.clone()));
    broker.hangs.fetch_or(true, SeqCst);
    durable.keep(text(1, 0)).await.unwrap();
    let began = std::time::Instant::now();
    for customer in 1..20 {
        durable.keep(text(customer, 1)).await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(ground.intake.spool(), SpoolState::InUse(20));
    broker.hangs.fetch_and(false, SeqCst);
    ground.drain(&broker).await;
    durable.keep(text(1, 2)).await.unwrap();
    assert_eq!(broker.taken()[&1], [0, 1, 2]);
    ground.close().await;
}

#[tokio::test]
async fn a_queue_that_refuses_sends_only_its_own_conversations_into_the_spool() {
    let dir = tempfile::tempdir().unwrap();
    let ground = Ground::open(&dir, MIB);
    let broker = Tray::new(false, 0);
    let durable = Durable::new(Arc::clone(&broker) as Arc<dyn Broker>, Some(ground.spool.clone()));
    broker.refused.fetch_and(1, SeqCst);
    for number in 0..3 {
        durable.keep(text(1, number)).await.unwrap();
        durable.keep(text(2, number)).await.unwrap();
    }
    assert_eq!(broker.taken(), BTreeMap::from([(2, vec![0, 1, 2])]));
    assert_eq!(ground.intake.spool(), SpoolState::InUse(3));
    broker.refused.fetch_or(u16::MAX, SeqCst);
    ground.drain(&broker).await;
    assert_eq!(broker.taken()[&1], [0, 1, 2]);
    ground.close().await;
}

#[tokio::test]
async fn g2_b2_a_queue_that_hangs_is_not_taken_for_a_broker_that_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let ground = Ground::open(&dir, MIB);
    let broker = Tray::new(false, 0);
    let durable = Durable::new(Arc::clone(&broker) as Arc<dyn Broker>, Some(ground.spool.clone()));
    broker.ignored.store(1, SeqCst);
    durable.keep(text(1, 0)).await.unwrap();
    for number in 0..3 {
        durable.keep(text(1, 1 + number)).await.unwrap();
        durable.keep(text(2, number)).await.unwrap();
    }
    assert_eq!(broker.taken(), BTreeMap::from([(2, vec![0, 1, 2])]));
    assert_eq!(ground.intake.spool(), SpoolState::InUse(4));
    broker.ignored.store(u16::MAX, SeqCst);
    ground.drain(&broker).await;
    assert_eq!(broker.taken()[&1], [0, 1, 2, 3]);
    ground.close().await;
}

/// Drains into a broker that ignores customer 1, until all others have their messages; then, after `restarts` of the
/// process, into a healthy one.
async fn drain_past_one_that_hangs(restarts: usize) {
    const CUSTOMERS: u16 = 30;
    let dir = tempfile::tempdir().unwrap();
    let mut ground = Ground::open(&dir, 64 * MIB);
    for number in 0..6 {
        for customer in 0..CUSTOMERS {
            ground.spool.append(&text(customer, number)).await.unwrap();
        }
    }
    let broker = Tray::new(false, 0);
    broker.ignored.store(1, SeqCst);
    let stop = Shutdown::new(Duration::ZERO);
    let drain = Drain::new(ground.spool.clone(), Arc::clone(&broker) as Arc<dyn Broker>).run(stop.clone());
    let all_others = async {
        while ground.intake.spool() != SpoolState::InUse(6) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The next message of the conversation that hangs waits behind it; one of another conversation passes it.
        ground.spool.append(&text(1, 6)).await.unwrap();
        ground.spool.append(&text(2, 6)).await.unwrap();
        while !broker.taken()[&2].contains(&6) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.start();
    };
    tokio::time::timeout(DEADLINE, async { tokio::join!(drain, all_others) }).await.expect("the others pass in time");
    let stripe = stripe(text(1, 0).key);
    for _ in 0..restarts {
        ground.close().await;
        ground = Ground::open(&dir, 64 * MIB);
    }
    assert!(ground.spool.is_in_the_way_of(stripe), "its conversation waits behind it");
    broker.ignored.store(u16::MAX, SeqCst);
    ground.drain(&broker).await;
    for (customer, numbers) in broker.taken() {
        assert_eq!(numbers, (0..if customer < 3 && customer > 0 { 7 } else { 6 }).collect::<Vec<_>>());
    }
    assert!(segments(&dir, "0").is_empty(), "what is drained is deleted");
    ground.close().await;
}

#[tokio::test]
async fn g2_b2_the_drain_passes_a_conversation_that_hangs_and_keeps_its_order() {
    drain_past_one_that_hangs(0).await;
}

#[tokio::test]
async fn g2_b2_what_the_drain_passed_is_there_in_order_after_a_restart() {
    drain_past_one_that_hangs(2).await;
}

#[tokio::test]
async fn g2_b2_a_segment_is_deleted_once_all_of_it_is_published_whatever_waits_before_it() {
    let dir = tempfile::tempdir().unwrap();
    // A quarter of the limit is a segment.
    let ground = Ground::open(&dir, 48 * 1024);
    ground.spool.append(&text(1, 0)).await.unwrap();
    for number in 0..80 {
        ground.spool.append(&text(2, number)).await.unwrap();
    }
    assert!(segments(&dir, "0").len() > 2, "{:?}", segments(&dir, "0"));
    let broker = Tray::new(false, 0);
    broker.refused.store(1, SeqCst);
    let stop = Shutdown::new(Duration::ZERO);
    stop.start();
    Drain::new(ground.spool.clone(), Arc::clone(&broker) as Arc<dyn Broker>).run(stop).await;
    assert_eq!(broker.taken(), BTreeMap::from([(2, (0..80).collect())]));
    assert_eq!(segments(&dir, "0").len(), 1, "only the one with the message that was refused");
    ground.close().await;
}

#[tokio::test]
async fn g1_what_a_dead_process_left_is_published_by_the_next_before_anything_new() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (Ground::open(&dir, MIB), Ground::open(&dir, MIB));
    for number in 0..3 {
        first.spool.append(&text(1, number)).await.unwrap();
        second.spool.append(&text(2, number)).await.unwrap();
    }
    first.close().await;
    second.close().await;
    let next = Ground::open(&dir, MIB);
    assert_eq!(next.intake.spool(), SpoolState::InUse(6));
    let stripe = stripe(text(2, 3).key);
    assert!(next.spool.is_in_the_way_of(stripe), "a new text waits behind those of a dead process");
    next.spool.append(&text(2, 3)).await.unwrap();
    let broker = Tray::new(false, 0);
    next.drain(&broker).await;
    assert_eq!(broker.taken(), BTreeMap::from([(1, vec![0, 1, 2]), (2, vec![0, 1, 2, 3])]));
    assert!(!next.spool.is_in_the_way_of(stripe));
    next.close().await;
}

#[tokio::test]
async fn what_is_left_by_a_process_that_dies_later_is_found_by_a_living_one() {
    let dir = tempfile::tempdir().unwrap();
    let (living, dead) = (Ground::open(&dir, MIB), Ground::open(&dir, MIB));
    dead.spool.append(&text(1, 0)).await.unwrap();
    dead.close().await;
    living.spool.commands.send(Command::Tend).await.unwrap();
    living.spool.append(&text(1, 1)).await.unwrap();
    let broker = Tray::new(false, 0);
    living.drain(&broker).await;
    assert_eq!(broker.taken(), BTreeMap::from([(1, vec![0, 1])]));
    living.close().await;
}

#[tokio::test]
async fn a_full_spool_refuses_until_it_is_drained() {
    let dir = tempfile::tempdir().unwrap();
    let ground = Ground::open(&dir, 4096);
    assert_eq!(ground.intake.spool(), SpoolState::Idle);
    let mut taken = 0;
    while ground.spool.append(&text(1, taken)).await.is_ok() {
        taken += 1;
    }
    assert!((3..20).contains(&taken), "{taken} texts in 4 KiB");
    assert_eq!(ground.intake.spool(), SpoolState::Full);
    let broker = Tray::new(false, 0);
    let size: u64 = segments(&dir, "0").iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(size <= 4096, "{size} bytes on disk");
    ground.spool.append(&text(1, taken)).await.unwrap_err();
    let stop = Shutdown::new(Duration::ZERO);
    stop.start();
    Drain::new(ground.spool.clone(), Arc::clone(&broker) as Arc<dyn Broker>).run(stop).await;
    assert_eq!(broker.taken()[&1], (0..taken).collect::<Vec<_>>());
    assert_eq!(ground.intake.spool(), SpoolState::Idle);
    ground.spool.append(&text(1, taken)).await.unwrap();
    ground.close().await;
}

#[tokio::test]
async fn g1_a_disk_that_fails_refuses_and_is_used_again_once_it_is_well() {
    let dir = tempfile::tempdir().unwrap();
    let ground = Ground::open(&dir, MIB);
    let slot = directory(dir.path()).join("0");
    // Works for root too, which permissions do not stop.
    fs::rename(&slot, dir.path().join("elsewhere")).unwrap();
    let stripe = stripe(text(1, 0).key);
    ground.spool.append(&text(1, 0)).await.unwrap_err();
    assert_eq!(ground.intake.spool(), SpoolState::Failing);
    assert!(!ground.spool.is_in_the_way_of(stripe), "nobody waits for what was refused");
    fs::rename(dir.path().join("elsewhere"), &slot).unwrap();
    ground.spool.commands.send(Command::Tend).await.unwrap();
    ground.spool.append(&text(1, 1)).await.unwrap();
    let broker = Tray::new(false, 0);
    ground.drain(&broker).await;
    assert_eq!(broker.taken(), BTreeMap::from([(1, vec![1])]));
    ground.close().await;
}

#[tokio::test]
async fn a_segment_that_cannot_be_read_is_laid_aside_and_the_next_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let ground = Ground::open(&dir, 64 * MIB);
    ground.spool.append(&text(1, 0)).await.unwrap();
    ground.close().await;
    let ground = Ground::open(&dir, 64 * MIB);
    ground.spool.append(&text(2, 0)).await.unwrap();
    let unreadable = segments(&dir, "0").remove(0);
    fs::remove_file(&unreadable).unwrap();
    fs::create_dir(&unreadable).unwrap();
    let broker = Tray::new(false, 0);
    ground.drain(&broker).await;
    assert_eq!(broker.taken(), BTreeMap::from([(2, vec![0])]));
    assert!(unreadable.with_extension("unreadable").exists());
    ground.close().await;
}

#[tokio::test]
async fn a_restart_goes_on_where_the_drain_was() {
    let dir = tempfile::tempdir().unwrap();
    let ground = Ground::open(&dir, 64 * MIB);
    for number in 0..6 {
        ground.spool.append(&text(1, number)).await.unwrap();
    }
    // Messages of one conversation are published one at a time: the first is taken, the rest refused.
    let broker = Tray::new(false, 2);
    let stop = Shutdown::new(Duration::ZERO);
    stop.start();
    Drain::new(ground.spool.clone(), Arc::clone(&broker) as Arc<dyn Broker>).run(stop).await;
    ground.close().await;
    let ground = Ground::open(&dir, 64 * MIB);
    assert_eq!(ground.intake.spool(), SpoolState::InUse(5));
    ground.drain(&broker).await;
    assert_eq!(*broker.taken.lock().unwrap(), (0..6).map(|number| (1, number)).collect::<Vec<_>>());
    ground.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Cuts or flips any byte of a segment on disk: everything before a cut, and all but the damaged record, comes out.
    #[test]
    fn g1_a_damaged_segment_gives_back_all_that_is_not_damaged(at in any::<prop::sample::Index>(), is_cut in any::<bool>()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let ground = Ground::open(&dir, 64 * MIB);
            for number in 0..4 {
                ground.spool.append(&text(1, number)).await.unwrap();
            }
            ground.close().await;
            let path = segments(&dir, "0").remove(0);
            let mut bytes = fs::read(&path).unwrap();
            let (at, record_bytes) = (at.index(bytes.len()), bytes.len() / 4);
            let damaged = u32::try_from(at / record_bytes).unwrap();
            if is_cut { bytes.truncate(at) } else { bytes[at] ^= 0x40 }
            fs::write(&path, bytes).unwrap();
            let ground = Ground::open(&dir, 64 * MIB);
            ground.spool.append(&text(1, 4)).await.unwrap();
            let broker = Tray::new(false, 0);
            ground.drain(&broker).await;
            let expected: Vec<u32> = (0..5).filter(|number| {
                *number != damaged && (!is_cut || *number < damaged || *number == 4)
            }).collect();
            assert_eq!(broker.taken()[&1], expected);
            ground.close().await;
        });
    }
}

#[tokio::test]
async fn a_disk_that_hangs_lets_nobody_wait_for_ever_even_with_all_places_taken() {
    let (commands, _hangs) = mpsc::channel(1);
    commands.try_send(Command::Tend).unwrap();
    let (backlog, clock) = (Arc::new(Backlog::new(Arc::default())), Clock::system());
    let spool = Spool { backlog, commands, dir: Arc::default(), clock };
    let refused = tokio::time::timeout(2 * APPEND_TIMEOUT, spool.append(&text(1, 1))).await;
    refused.expect("it is refused in time").unwrap_err();
    assert!(!spool.is_in_the_way_of(stripe(text(1, 1).key)), "nothing of it may come yet");
}
