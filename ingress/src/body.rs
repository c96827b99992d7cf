//! Reads a request's body. The memory of all bodies together is bounded where their bytes arrive: see `connections`.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use http_body_util::BodyExt as _;

use crate::connections::Connection;
use crate::problem::Problem;

/// A webhook body may have this many bytes. Twilio's have at most some 20 KiB: 1,600 characters, ten links and their
/// form encoding. IntelePeer's are shorter, as media come as links; inline media (5 MB) would need another way anyway.
const LIMIT_BYTES: usize = 64 * 1024;
/// The size of a piece: a page of memory, and enough for most bodies.
const PIECE_BYTES: usize = 4096;
/// From this many pieces on a body is costly: each is some microseconds of work, and a provider sends a handful.
const MANY_PIECES: usize = 64;
/// How long a body may take to arrive, 10 s.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Refuses a body whose declared length is too long.
pub(crate) fn check_length(body: &Body) -> Result<(), Problem> {
    if body.size_hint().lower() > LIMIT_BYTES as u64 { Err(Problem::TooLarge) } else { Ok(()) }
}

/// Reads the whole body, whose declared length may be wrong. A body in [`MANY_PIECES`] marks `connection` as costly.
pub(crate) async fn read(mut body: Body, connection: Option<&Connection>) -> Result<Vec<u8>, Problem> {
    let collect = async {
        let (mut pieces, mut frames) = (Pieces::default(), 0);
        while let Some(frame) = body.frame().await {
            frames += 1;
            if frames == MANY_PIECES
                && let Some(connection) = connection
            {
                connection.is_costly();
            }
            let frame = frame.map_err(|_| Problem::BrokenOff)?;
            let Ok(data) = frame.into_data() else { continue };
            if pieces.len_bytes + data.len() > LIMIT_BYTES {
                return Err(Problem::TooLarge);
            }
            pieces.add(&data);
        }
        Ok(pieces.all.concat())
    };
    tokio::time::timeout(TIMEOUT, collect).await.unwrap_or(Err(Problem::TooSlow))
}

/// The bytes of a body that have arrived. They are copied, because each frame keeps the whole buffer alive that it
/// arrived in, even if it is one byte; in pieces of one size, because thousands of buffers that grow fragment the heap.
#[derive(Default)]
struct Pieces {
    all: Vec<Vec<u8>>,
    len_bytes: usize,
}

impl Pieces {
    fn add(&mut self, mut data: &[u8]) {
        self.len_bytes += data.len();
        while !data.is_empty() {
            data = match self.all.last_mut().filter(|last| last.len() < PIECE_BYTES) {
                Some(last) => {
                    let (now, later) = data.split_at(data.len().min(PIECE_BYTES - last.len()));
                    last.extend_from_slice(now);
                    later
                }
                None => {
                    self.all.push(Vec::with_capacity(PIECE_BYTES));
                    data
                }
            };
        }
    }
}
