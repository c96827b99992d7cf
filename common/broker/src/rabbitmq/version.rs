//! The server's version, to warn about releases that spread partitions badly, and to find out whether a node that hung
//! answers again.
//!
//! lapin does not expose the server's properties, so this asks on a short connection of its own: the first frame of a
//! handshake, sent before any password is asked for, names the version.

use std::time::Duration;

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use lapin::tcp::AMQPUriTcpExt as _;
use lapin::uri::AMQPUri;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(2);
/// How many bytes are read at most: more than any handshake's first frame takes.
const ENOUGH_BYTES: usize = 16 * 1024;

/// Warns when the server at `uri` is older than 4.0. Stays silent when the server does not answer.
pub(super) async fn warn_if_old(uri: &AMQPUri) {
    let Ok(Some(version)) = timeout(TIMEOUT, ask(uri)).await else { return };
    let major = version.split('.').next().and_then(|major| major.parse::<u16>().ok());
    if major.is_some_and(|major| major < 4) {
        tracing::warn!(
            server.version = version,
            "rabbitmq before 4.0 ignores consumer priorities: the first worker keeps every partition"
        );
    }
}

/// The version of the server at `uri`. There is no deadline: a caller may drop the future at any time, and nothing is
/// left behind.
pub(super) async fn ask(uri: &AMQPUri) -> Option<String> {
    let runtime = lapin::runtime::default_runtime().ok()?;
    let mut stream = uri.connect_async(&runtime).await.ok()?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await.ok()?;
    let mut frame = Vec::new();
    let mut chunk = [0; 1024];
    while frame.len() < ENOUGH_BYTES {
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        frame.extend_from_slice(chunk.get(..read)?);
        if let Some(version) = version_in(&frame) {
            return Some(version);
        }
    }
    None
}

/// Finds the long string named `version` in a frame: a length, the name, `S`, a four-byte length, the text.
fn version_in(frame: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"\x07versionS";
    let start = frame.windows(NAME.len()).position(|bytes| bytes == NAME)? + NAME.len();
    let (length, rest) = frame.get(start..)?.split_first_chunk::<4>()?;
    let text = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_version_is_found_once_all_of_it_has_arrived() {
        let frame = b"\x01\x00\x00noise\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x063.10.8\x00more";
        assert_eq!(version_in(frame), Some("3.10.8".to_owned()));
        let end = frame.len() - b"8\x00more".len();
        assert_eq!(version_in(&frame[..end]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(before in ".{0,20}", after in proptest::collection::vec(any::<u8>(), 0..20)) {
            let frame = [before.as_bytes(), b"\x07versionS", &after].concat();
            let _version = version_in(&frame);
        }
    }
}
