//! A heartbeat as it lies in a queue.

use broker::{Destination, Outgoing, Stage};
use message::ConversationKey;
use message::trace::new_traceparent;
use serde::{Deserialize, Serialize};

/// Every heartbeat begins with these bytes and no envelope does, so an envelope is told apart without parsing.
const BEGINNING: &[u8] = br#"{"heartbeat":"#;

/// A small message that goes through one partition and that no handler sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// The partition it goes through.
    pub(super) partition: u16,
    /// The stage's round it belongs to.
    pub(super) round: u64,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    heartbeat: Beat,
}

impl Beat {
    /// Reads `payload` if it is a heartbeat.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let is_one = payload.starts_with(BEGINNING);
        let payload: Option<Payload> = is_one.then(|| serde_json::from_slice(payload).ok()).flatten();
        payload.map(|payload| payload.heartbeat)
    }

    /// This heartbeat on its way through its partition of `stage`.
    pub(super) fn to(self, stage: Stage) -> Outgoing {
        Outgoing {
            destination: Destination::Work(stage),
            id: None,
            key: Some(ConversationKey::of_partition(self.partition)),
            trace: new_traceparent(),
            // Numbers only: serialising cannot fail.
            payload: serde_json::to_vec(&Payload { heartbeat: self }).unwrap_or_default().into(),
        }
    }
}

/// Whether `payload`, as it lies in a queue, is a heartbeat. A heartbeat does not count as a message.
#[must_use]
pub fn is_heartbeat(payload: &[u8]) -> bool {
    Beat::read(payload).is_some()
}

#[cfg(test)]
mod tests {
    use message::Envelope;

    use super::*;

    #[test]
    fn a_heartbeat_is_read_as_every_release_wrote_it_and_is_no_envelope() {
        let written = include_bytes!("../../../../tests/fixtures/heartbeats/v1/beat.json").trim_ascii();
        let beat = Beat { partition: 3, round: 41 };
        assert_eq!(Beat::read(written), Some(beat));
        assert_eq!(beat.to(Stage::Inbound).payload, written);
        Envelope::decode(written).unwrap_err();
        for other in
            [&b""[..], b"{", br#"{"schema":1}"#, br#"{"heartbeat":7}"#, br#"{"heartbeat":{"partition":70000}}"#]
        {
            assert!(!is_heartbeat(other), "{other:?}");
        }
    }

    #[test]
    fn a_heartbeat_is_routed_to_its_own_partition() {
        for partitions in [1_u16, 4, 16, 64, 1024] {
            for partition in 0..partitions {
                let key = Beat { partition, round: 1 }.to(Stage::Outbound).key.unwrap();
                assert_eq!(key.partition(partitions), partition);
            }
        }
    }
}
