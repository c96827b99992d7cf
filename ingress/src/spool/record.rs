//! One spooled message as bytes: a mark, a length, a checksum, and the message. A reader that meets damage looks for
//! the next mark, and takes up again only where a checksum holds.

use broker::Stage;
use bytes::Bytes;

/// Begins every record. It is not UTF-8 and payloads are, so no text can hold one.
const MARK: [u8; 4] = [0xFF, b'S', b'P', 0xFE];
/// Mark, length of the body, checksum of both.
const HEADER_BYTES: usize = 12;
/// Stage, stripe, time: what stands in the body before the payload.
const PREFIX_BYTES: usize = 11;
/// The longest body, 2 MiB. A webhook has at most 64 KiB (formerly 256), and JSON can make six bytes of one.
const LARGEST_BODY_BYTES: usize = 2 * 1024 * 1024;

/// A message in the spool.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) stage: Stage,
    /// The stripe in which its conversation waits; see [`super::stripe`].
    pub(super) stripe: u16,
    /// When it was appended, in milliseconds since 1970.
    pub(super) appended_ms: i64,
    /// The encoded envelope.
    pub(super) payload: Bytes,
}

/// What stands at the beginning of some bytes.
#[derive(PartialEq, Eq)]
pub(super) enum Read {
    /// A record, and how many bytes it takes.
    Whole(Record, usize),
    /// Nothing that can be read in this many bytes. At least `records` records are lost, by the number of marks, if
    /// they were ever whole.
    Damaged { bytes: usize, records: u64 },
}

/// The bytes of `record`; `None` when it is too large to be read again.
pub(super) fn encode(record: &Record) -> Option<Vec<u8>> {
    let length = PREFIX_BYTES + record.payload.len();
    let length_bytes = u32::try_from(length).ok().filter(|_| length <= LARGEST_BODY_BYTES)?.to_le_bytes();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + length);
    bytes.extend(MARK);
    bytes.extend(length_bytes);
    bytes.extend([0; 4]);
    bytes.push(match record.stage {
        Stage::Inbound => 0,
        Stage::Outbound => 1,
        Stage::Receipts => 2,
    });
    bytes.extend(record.stripe.to_le_bytes());
    bytes.extend(record.appended_ms.to_le_bytes());
    bytes.extend(&record.payload);
    let (header, body) = bytes.split_at_mut(HEADER_BYTES);
    header.get_mut(8..)?.copy_from_slice(&checksum(length_bytes, body).to_le_bytes());
    Some(bytes)
}

/// Reads the record, or steps over the damage, that `bytes` begin with. `None` when `bytes` is empty. The damage ends
/// at the next whole record, or with `bytes`.
pub(super) fn read(bytes: &[u8]) -> Option<Read> {
    if bytes.is_empty() {
        return None;
    }
    if let Some((record, length)) = whole(bytes) {
        return Some(Read::Whole(record, length));
    }
    let marks = || bytes.windows(MARK.len()).enumerate().skip(1).filter(|(_, window)| *window == MARK);
    let is_whole = |at: usize| bytes.get(at..).is_some_and(|rest| whole(rest).is_some());
    let next = marks().map(|(at, _)| at).find(|at| is_whole(*at)).unwrap_or(bytes.len());
    let lost = 1 + marks().take_while(|(at, _)| *at < next).count();
    Some(Read::Damaged { bytes: next, records: u64::try_from(lost).unwrap_or(u64::MAX) })
}

fn whole(bytes: &[u8]) -> Option<(Record, usize)> {
    let rest = bytes.strip_prefix(&MARK)?;
    let (length_bytes, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length_bytes)).ok().filter(|it| *it <= LARGEST_BODY_BYTES)?;
    let body = rest.get(..length)?;
    if checksum(*length_bytes, body) != u32::from_le_bytes(*sum) {
        return None;
    }
    let (stage, rest) = body.split_first()?;
    let (stripe, rest) = rest.split_first_chunk::<2>()?;
    let (appended_ms, payload) = rest.split_first_chunk::<8>()?;
    let record = Record {
        stage: match stage {
            0 => Stage::Inbound,
            1 => Stage::Outbound,
            2 => Stage::Receipts,
            _ => return None,
        },
        stripe: u16::from_le_bytes(*stripe),
        appended_ms: i64::from_le_bytes(*appended_ms),
        payload: Bytes::copy_from_slice(payload),
    };
    Some((record, HEADER_BYTES + length))
}

fn checksum(length_bytes: [u8; 4], body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&length_bytes);
    sum.update(body);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(number: usize, text: &str) -> Record {
        let stage = Stage::ALL[number % 3];
        let payload = Bytes::from(format!("{{\"number\":{number},\"text\":\"{text}\"}}"));
        Record { stage, stripe: u16::try_from(number).unwrap(), appended_ms: 1_700_000_000_000, payload }
    }

    /// Every record that can be read, and how many were counted as lost. Ends, because every step goes forward.
    fn read_all(mut bytes: &[u8]) -> (Vec<Record>, u64) {
        let (mut records, mut lost) = (Vec::new(), 0);
        while let Some(read) = read(bytes) {
            let length = match read {
                Read::Whole(record, length) => {
                    records.push(record);
                    length
                }
                Read::Damaged { bytes, records } => {
                    lost += records;
                    bytes
                }
            };
            assert!(length > 0, "no step forward");
            bytes = &bytes[length..];
        }
        (records, lost)
    }

    proptest! {
        #[test]
        fn g1_whatever_byte_a_kill_cuts_at_every_record_before_it_is_kept(texts in prop::collection::vec("\\PC{0,20}", 1..6)) {
            let records: Vec<Record> = texts.iter().enumerate().map(|(number, text)| record(number, text)).collect();
            let encoded: Vec<Vec<u8>> = records.iter().map(|record| encode(record).unwrap()).collect();
            let all = encoded.concat();
            for cut in 0..=all.len() {
                let mut end = 0;
                let whole = encoded.iter().take_while(|bytes| { end += bytes.len(); end <= cut }).count();
                let is_at_an_end = encoded[..whole].iter().map(Vec::len).sum::<usize>() == cut;
                let (read, lost) = read_all(&all[..cut]);
                prop_assert!(read == records[..whole]);
                prop_assert_eq!(lost, u64::from(!is_at_an_end));
            }
        }

        #[test]
        fn g1_whatever_byte_is_flipped_only_its_record_is_lost_and_counted(texts in prop::collection::vec("\\PC{0,20}", 1..5), mask in 1_u8..=255) {
            let records: Vec<Record> = texts.iter().enumerate().map(|(number, text)| record(number, text)).collect();
            let encoded: Vec<Vec<u8>> = records.iter().map(|record| encode(record).unwrap()).collect();
            let mut all = encoded.concat();
            let owners = encoded.iter().enumerate().flat_map(|(owner, bytes)| std::iter::repeat_n(owner, bytes.len()));
            for (flipped, owner) in owners.enumerate() {
                all[flipped] ^= mask;
                let (read, lost) = read_all(&all);
                let mut kept = records.clone();
                kept.remove(owner);
                prop_assert!(read == kept, "byte {}", flipped);
                prop_assert_eq!(lost, 1);
                all[flipped] ^= mask;
            }
        }

        #[test]
        fn noise_is_stepped_over_and_what_follows_is_read(noise in prop::collection::vec(any::<u8>(), 1..200), marks in 0_usize..4) {
            let mut bytes = noise;
            for _ in 0..marks {
                bytes.extend(MARK);
            }
            bytes.extend(encode(&record(7, "kept")).unwrap());
            let (read, lost) = read_all(&bytes);
            prop_assert!(read == [record(7, "kept")]);
            prop_assert!(lost >= 1);
        }
    }

    #[test]
    fn a_record_that_could_not_be_read_again_is_not_written() {
        let payload = Bytes::from(vec![b'x'; LARGEST_BODY_BYTES]);
        assert!(encode(&Record { payload, ..record(0, "") }).is_none());
        let payload = Bytes::from(vec![b'x'; LARGEST_BODY_BYTES - PREFIX_BYTES]);
        let largest = Record { payload, ..record(0, "") };
        assert!(read_all(&encode(&largest).unwrap()).0 == [largest]);
    }
}
