//! Turns against the embedded store in memory and an assistant that says what a test wants.

mod bursts;
mod failing;
mod once;
mod sessions;
mod stand;

use broker::{Destination, Outgoing, Stage};
use message::clock::Clock;
use message::{Body, Envelope};
use work::{Outcome, Settlement};

/// The texts of the parts among `effects`, which all go to the senders.
fn texts(effects: &[Outgoing]) -> Vec<String> {
    let part = |outgoing: &Outgoing| {
        assert_eq!(outgoing.destination, Destination::Work(Stage::Outbound));
        match Envelope::decode(&outgoing.payload).unwrap().body {
            Body::Part(part) => part.text.expose().to_owned(),
            other => panic!("not a part: {other:?}"),
        }
    };
    effects.iter().map(part).collect()
}

/// A person replays it now.
fn replay(envelope: &mut Envelope) {
    envelope.replay(Clock::system().now(), "somebody@here", "the reason it had");
}

/// The outcome of a turn that is done, or the reason of one that is dead.
fn ending(settlement: &Settlement) -> &str {
    match settlement {
        Settlement::Done(Outcome::Refused(rule)) => rule.as_str(),
        Settlement::Done(outcome) => outcome.as_str(),
        Settlement::DeadLetter(reason) => reason.name.as_str(),
        Settlement::Rest(_) => "rest",
        Settlement::RetryAfter(_) => "retry after",
        Settlement::GiveBack => "give back",
    }
}
