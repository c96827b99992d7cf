//! G5, as an operator sees it: dead letters are listed, shown, replayed in order and answered once, or discarded, by
//! the real binary beside a running Switchboard, on both backends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ::embedded::{Database, EmbeddedBroker};
use broker::{Broker as _, Destination, Outgoing, Reason, ReasonName, Stage};
use message::clock::{Clock, Timestamp};
use message::{Address, Body, Conversation, Envelope, Inbound, IntegrationId, MessageId, Part, SCHEMA};
use serde_json::Value;
use simulator::{Answer, Fault, Route};
use tests::house::{Backend, Blueprint, DEADLINE, House};
use tests::samples::text_from;
use tokio::process::{Child, Command};

/// Runs each test on the embedded backend and on real servers.
macro_rules! on_both_backends {
    ($($test:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() { super::$test(super::Backend::Embedded).await; })+
        }
        mod servers {
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() {
                let servers = tokio::task::spawn_blocking(super::Backend::shared_servers).await.unwrap();
                super::$test(servers).await;
            })+
        }
    };
}

on_both_backends!(
    g5_what_died_is_listed_shown_and_replayed_in_order,
    g5_a_replay_that_fails_is_dead_again_with_its_history,
    g5_discarding_needs_a_filter_and_takes_what_it_takes,
    g5_a_thousand_mixed_dead_letters_outlive_kill_9_of_the_replay_in_order_and_once,
);

/// An operator's command line beside a running [`House`].
struct Desk {
    directory: tempfile::TempDir,
}

/// A command's exit code and output.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Desk {
    fn at(house: &House) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("switchboard.toml"), house.queue_configuration()).unwrap();
        Self { directory }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
        command.current_dir(self.directory.path()).env_clear().env("USER", "olga").stdin(Stdio::null());
        command.arg("dead-letters").args(arguments).kill_on_drop(true);
        command
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    async fn run(&self, arguments: &[&str]) -> Said {
        let output = tokio::time::timeout(DEADLINE, self.command(arguments).output()).await.expect("it ends").unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The JSON lines of a command that succeeds.
    async fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let said = self.run(&[arguments, &["--json"]].concat()).await;
        assert_eq!(said.code, Some(0), "{arguments:?}: {}{}", said.stdout, said.stderr);
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

async fn house(backend: Backend) -> House {
    let house = House::open(Blueprint::new(backend)).await;
    house.simulator.assistant().answer_with(|turn| Answer::text(format!("you said {}", turn.text)));
    house
}

async fn g5_what_died_is_listed_shown_and_replayed_in_order(backend: Backend) {
    let house = house(backend).await;
    let desk = Desk::at(&house);
    let empty = desk.run(&["list"]).await;
    assert_eq!((empty.code, empty.stdout.as_str()), (Some(0), "0 in all\n"), "{}", empty.stderr);
    house.simulator.fail(Route::AssistantSession, Fault::status(503).always());
    let customers = ["+13035550161", "+13035550162"];
    for word in ["one", "two", "three"] {
        for customer in customers {
            house.text(customer, word).await;
        }
    }
    house.await_depths(|depths| depths.dead == 6).await;
    for customer in customers {
        house.replies(customer, 3).await;
    }

    let listed = desk.json(&["list"]).await;
    assert_eq!(listed.len(), 6);
    for one in &listed {
        assert_eq!(one["reason"], "assistant_unreachable");
        assert!(["+*********61", "+*********62"].contains(&one["customer"].as_str().unwrap()), "{one}");
    }
    let of_one = desk.json(&["list", "--conversation", "*61", "--stage", "inbound", "--newer-than", "10m"]).await;
    assert_eq!(of_one.len(), 3);
    let hash = of_one[0]["conversation"].as_str().unwrap().to_owned();
    assert_eq!(desk.json(&["list", "--conversation", hash.get(..8).unwrap()]).await.len(), 3);
    assert_eq!(desk.json(&["list", "--older-than", "1h"]).await.len(), 0);
    assert_tells_all_but_words_and_numbers(&desk, of_one[1]["id"].as_str().unwrap()).await;
    let dry = &desk.json(&["replay", "--dry-run", "--conversation", "*61"]).await[0];
    assert_eq!((&dry["would_replay"], &dry["histogram"][0]["count"]), (&Value::from(3), &Value::from(3)));
    house.await_depths(|depths| depths.dead == 6).await;

    house.simulator.clear_faults();
    let replayed = desk.run(&["replay", "--rate", "0"]).await;
    assert_eq!((replayed.code, replayed.stdout.as_str()), (Some(0), "6 replayed\n"), "{}", replayed.stderr);
    assert!(
        replayed.stderr.contains("olga@") && replayed.stderr.contains("dead letters replayed"),
        "{}",
        replayed.stderr
    );
    for customer in customers {
        let replies = house.replies(customer, 6).await;
        assert_eq!(replies[3..], ["you said one", "you said two", "you said three"]);
    }
    house.close(0).await;
}

/// `id` is the text "two" of +13035550161, which found no assistant.
async fn assert_tells_all_but_words_and_numbers(desk: &Desk, id: &str) {
    let shown = &desk.json(&["show", id]).await[0];
    let attempts = shown["attempts"].as_array().unwrap();
    assert!(!attempts.is_empty() && attempts.iter().all(|one| one["kind"] == "transient" && one["code"] == "503"));
    assert!(shown["trace"].as_str().unwrap().starts_with("00-"), "{shown}");
    for hidden in [desk.run(&["show", id]).await, desk.run(&["list"]).await, desk.run(&["list", "--json"]).await] {
        let said = hidden.stdout + &hidden.stderr;
        assert!(!said.contains("3035550161") && !said.contains("two"), "{said}");
    }
    let revealed = desk.run(&["show", id, "--reveal"]).await.stdout;
    assert!(revealed.contains("text: two") && revealed.contains("+13035550161"), "{revealed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_g7_t2_a_request_that_could_not_be_read_is_printed_only_if_asked_for() {
    let house = house(Backend::Embedded).await;
    let desk = Desk::at(&house);
    let answer = house.simulator.phone().text("", &house.number, "from nowhere").await.unwrap();
    assert_eq!(answer.status, 204, "{answer:?}");
    house.await_depths(|depths| depths.dead == 1).await;
    let listed = &desk.json(&["list", "--reason", "unreadable", "--integration", "support"]).await[0];
    let id = listed["id"].as_str().unwrap();
    let hidden = desk.run(&["show", id]).await.stdout;
    assert!(hidden.contains("the field From is missing") && !hidden.contains("nowhere"), "{hidden}");
    let revealed = desk.run(&["show", id, "--reveal"]).await.stdout;
    assert!(revealed.contains("Body=from+nowhere"), "{revealed}");
    house.close(1).await;
}

async fn g5_a_replay_that_fails_is_dead_again_with_its_history(backend: Backend) {
    let house = house(backend).await;
    let desk = Desk::at(&house);
    house.simulator.fail(Route::AssistantSession, Fault::status(503).always());
    let customer = "+13035550163";
    house.text(customer, "hello").await;
    house.await_depths(|depths| depths.dead == 1).await;
    let before = desk.json(&["list"]).await[0]["attempts"].as_u64().unwrap();
    assert_eq!(desk.run(&["replay", "--by", "Olga, ticket 7"]).await.code, Some(0));
    let after = loop {
        // Between the replay and its second failure the message is no dead letter.
        if let Some(one) = desk.json(&["list"]).await.pop() {
            break one;
        }
    };
    assert_eq!(after["replays"], 1);
    assert!(after["attempts"].as_u64().unwrap() > before, "{after}");
    let shown = &desk.json(&["show", after["id"].as_str().unwrap()]).await[0];
    let replay = &shown["replays"][0];
    assert_eq!((&replay["by"], &replay["reason"]), (&"Olga, ticket 7".into(), &"assistant_unreachable".into()));
    assert_eq!(replay["attempts_before"].as_u64(), Some(before));
    house.simulator.clear_faults();
    assert_eq!(desk.run(&["replay"]).await.code, Some(0));
    let failure_message = integration::Options::default().failure_message;
    assert_eq!(house.replies(customer, 2).await, [failure_message, "you said hello".to_owned()]);
    house.close(0).await;
}

async fn g5_discarding_needs_a_filter_and_takes_what_it_takes(backend: Backend) {
    let house = house(backend).await;
    let desk = Desk::at(&house);
    let letters = four(&house);
    house.ports.broker.publish(&letters).await.unwrap();
    house.await_depths(|depths| depths.dead == 4).await;
    for usage in [
        &["discard"][..],
        &["discard", "--all", "--reason", "expired"],
        &["list", "--older-than", "soon"],
        &["show", "x"],
    ] {
        assert_eq!(desk.run(usage).await.code, Some(2), "{usage:?}");
    }
    assert_eq!(desk.run(&["show", "00000000"]).await.code, Some(1));
    assert_eq!(desk.json(&["discard", "--reason", "expired", "--dry-run"]).await[0]["would_discard"], 2);
    let replayed = desk.run(&["replay", "--reason", "unreadable"]).await;
    assert_eq!(replayed.stdout, "0 replayed; 1 that nobody can read stay\n", "{}", replayed.stderr);
    let one = &desk.json(&["list", "--reason", "unreadable"]).await[0];
    assert_eq!((&one["size_bytes"], &one["customer"]), (&Value::from(11), &Value::Null));
    let name = one["id"].as_str().unwrap();
    assert!(desk.run(&["show", name]).await.stdout.contains("sha256: "), "{name}");
    house.await_depths(|depths| depths.dead == 4).await;
    for (arguments, discarded, left) in
        [(&["--reason", "expired"][..], 2, 2), (&["--id", name], 1, 1), (&["--all"], 1, 0)]
    {
        let said = desk.run(&[&["discard"], arguments].concat()).await;
        assert_eq!(
            (said.code, said.stdout),
            (Some(0), format!("{discarded} discarded\n")),
            "{arguments:?}: {}",
            said.stderr
        );
        assert!(said.stderr.contains("olga@"), "{}", said.stderr);
        house.await_depths(|depths| depths.dead == left).await;
    }
    house.close(0).await;
}

/// One unreadable dead letter, two expired ones and one misrouted one.
fn four(house: &House) -> [Outgoing; 4] {
    let dead = |reason| Destination::Dead(Stage::Inbound, Reason::new(reason, "why"));
    let unreadable = Outgoing {
        destination: dead(ReasonName::Unreadable),
        id: None,
        key: None,
        trace: String::new(),
        payload: bytes::Bytes::from_static(b"no envelope"),
    };
    [
        unreadable,
        Outgoing::new(dead(ReasonName::Expired), &text(house, 1, 0)),
        Outgoing::new(dead(ReasonName::Expired), &text(house, 1, 1)),
        Outgoing::new(dead(ReasonName::Misrouted), &text(house, 2, 0)),
    ]
}

#[tokio::test]
async fn g8_a_replay_stops_where_the_embedded_queue_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(directory.path()).unwrap();
    let broker = EmbeddedBroker::new(database, Clock::system());
    for number in 0..2 {
        let dead = Destination::Dead(Stage::Inbound, Reason::new(ReasonName::Expired, "why"));
        broker.publish(&[Outgoing::new(dead, &text_from(1, number, "hi"))]).await.unwrap();
    }
    std::fs::write(directory.path().join("switchboard.toml"), "data_dir = \".\"\n[broker]\nmax_length = 1\n").unwrap();
    let desk = Desk { directory };
    let said = desk.run(&["replay", "--rate", "10"]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), "1 replayed\n"), "{}", said.stderr);
    assert!(said.stderr.contains("queue full: inbound"), "{}", said.stderr);
    assert_eq!(desk.json(&["list"]).await.len(), 1);
}

/// How many customers, and how many dead letters each has, for the inbound stage; below the same for the outbound
/// stage.
const TURNS: (u16, u32) = (30, 20);
const PARTS: (u16, u32) = (20, 20);
const RATE: u32 = 100;

async fn g5_a_thousand_mixed_dead_letters_outlive_kill_9_of_the_replay_in_order_and_once(backend: Backend) {
    let house = house(backend).await;
    let desk = Desk::at(&house);
    let letters = thousand(&house);
    assert_eq!(letters.len(), 1000);
    house.ports.broker.publish(&letters).await.unwrap();
    house.await_depths(|depths| depths.dead == 1000).await;
    let dry = &desk.json(&["replay", "--dry-run"]).await[0];
    assert_eq!((&dry["would_replay"], dry["histogram"].as_array().unwrap().len()), (&Value::from(1000), 6));

    let mut replaying = desk.start(&["replay", "--rate", &RATE.to_string()]);
    // On RabbitMQ the depth leaves out the letters that a replay holds, so progress is measured by the texts that were
    // sent.
    let midway = async {
        while house.simulator.messages().len() < 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, midway).await.expect("the replay goes on");
    assert!(replaying.try_wait().unwrap().is_none(), "it is still at work");
    replaying.kill().await.unwrap();

    let began = Instant::now();
    let again = &desk.json(&["replay", "--rate", &RATE.to_string()]).await[0];
    let took = began.elapsed().as_secs_f64();
    let replayed = again["replayed"].as_u64().unwrap();
    let rate = (replayed - 10) as f64 / took;
    assert!((200..=910).contains(&replayed), "{replayed} were left after the kill");
    assert!(rate <= f64::from(RATE) && rate >= f64::from(RATE) / 4.0, "{replayed} in {took} s: {rate} a second");

    let expected = expected_replies();
    for (customer, texts) in &expected {
        assert_eq!(house.replies(customer, texts.len()).await, *texts, "{customer}");
    }
    assert_eq!(desk.json(&["replay"]).await[0]["replayed"], 0, "nothing is left");
    let sent = house.simulator.messages().iter().filter(|m| expected.contains_key(&m.to)).count();
    house.close(0).await;
    assert_eq!(sent, 1000, "none twice");
}

/// 600 turns and 400 parts with six reasons, in a shuffled order.
fn thousand(house: &House) -> Vec<Outgoing> {
    let turns = (0..TURNS.0).flat_map(|customer| (0..TURNS.1).map(move |number| (Stage::Inbound, customer, number)));
    let parts = (0..PARTS.0).flat_map(|customer| (0..PARTS.1).map(move |number| (Stage::Outbound, customer, number)));
    let mut which: Vec<_> = turns.chain(parts).collect();
    // A fixed shuffle: 7,919 shares no factor with the count.
    let count = which.len();
    which = (0..count).map(|at| which[at * 7919 % count]).collect();
    let letter = |(stage, customer, number): (Stage, u16, u32)| match stage {
        Stage::Outbound => {
            let reason =
                [ReasonName::Exhausted, ReasonName::Misconfigured, ReasonName::UnknownOutcome][number as usize % 3];
            Outgoing::new(Destination::Dead(stage, Reason::new(reason, "why")), &part(house, customer, number))
        }
        _ => {
            let reason = [ReasonName::Expired, ReasonName::AssistantUnreachable, ReasonName::UnknownIntegration]
                [number as usize % 3];
            Outgoing::new(Destination::Dead(stage, Reason::new(reason, "why")), &text(house, customer, number))
        }
    };
    which.into_iter().map(letter).collect()
}

fn expected_replies() -> BTreeMap<String, Vec<String>> {
    let turns = (0..TURNS.0)
        .map(|customer| (number_of(customer), (0..TURNS.1).map(|number| format!("you said text {number}")).collect()));
    let parts = (0..PARTS.0).map(|customer| {
        (
            number_of(100 + customer),
            (0..PARTS.1).map(|number| format!("part {} of reply {}", number % 2, number / 2)).collect(),
        )
    });
    turns.chain(parts).collect()
}

fn number_of(customer: u16) -> String {
    format!("+1303555{:04}", 2000 + customer)
}

/// Text `number` of `customer`, accepted long ago.
fn text(house: &House, customer: u16, number: u32) -> Envelope {
    let id = format!("SM-dead-{customer}-{number}");
    let inbound = Inbound {
        provider_message_id: id.clone(),
        text: format!("text {number}").into(),
        media: Vec::new(),
        joined: Vec::new(),
    };
    envelope(house, customer, &id, number, Body::Inbound(inbound))
}

/// Part `number` of all parts for `customer`; each turn has two.
fn part(house: &House, customer: u16, number: u32) -> Envelope {
    let (turn, index) = (number / 2, number % 2);
    let id = format!("SM-parts-{customer}-{turn}");
    let words = format!("part {index} of reply {turn}");
    let id_of_turn = MessageId::of_provider(&integration(), &id);
    let index = u16::try_from(index).unwrap();
    let body = Part { turn: id_of_turn, index, text: words.as_str().into(), media: Vec::new() };
    let whole = envelope(house, 100 + customer, &id, turn, Body::Part(body));
    Envelope { id: id_of_turn.derive(&format!("part/{index}")), ..whole }
}

fn integration() -> IntegrationId {
    IntegrationId::parse("support").unwrap()
}

fn envelope(house: &House, customer: u16, id: &str, number: u32, body: Body) -> Envelope {
    let phone = |text: &str| Address::parse(text).unwrap();
    Envelope {
        schema: SCHEMA,
        id: MessageId::of_provider(&integration(), id),
        integration: integration(),
        conversation: Conversation::new(phone(&number_of(customer)), phone(&house.number)),
        accepted_at: Timestamp::from_second(1_700_000_000 + i64::from(number)).unwrap(),
        attempts: Vec::new(),
        replays: Vec::new(),
        trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        body,
    }
}
