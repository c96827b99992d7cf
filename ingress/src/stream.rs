//! A connection's bytes: what is read is counted, an answer that is not taken in time ends the connection, and a
//! connection that we close reads the rest of what its client sends for a moment.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::connections::Connection;

/// How many bytes are read at a time: less than the 8 KiB with which hyper's buffer begins, so that it does not grow
/// for a body.
const READ_BYTES: usize = 4096;
/// How long a client may take to read a whole answer, 10 s: Twilio gives up after 15 s for the whole exchange.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the rest of a refused request is read and dropped, 1 s. A connection closed before its client has sent
/// everything is reset, and with it the answer may be lost.
const LINGER: Duration = Duration::from_secs(1);

/// The stream of one connection.
#[derive(Debug)]
pub(crate) struct ClientStream<S> {
    stream: S,
    connection: Arc<Connection>,
    /// Something was written since the last flush.
    is_writing: bool,
    is_shut: bool,
    /// The deadline of a write or shutdown that could not be finished at once.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> ClientStream<S> {
    pub(crate) fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self { stream, connection, is_writing: false, is_shut: false, deadline: None }
    }

    /// Fails once a write or shutdown has been pending for too long.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_pending() {
            self.connection.waits();
            let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(ANSWER_TIMEOUT)));
            ready!(deadline.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let wanted = buf.remaining().min(READ_BYTES);
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(wanted));
        let polled = Pin::new(&mut this.stream).poll_read(cx, &mut part);
        if polled.is_pending() {
            this.connection.waits();
        }
        ready!(polled)?;
        let read = part.filled().len();
        buf.advance(read);
        if read > 0 && !this.connection.received(read, Instant::now()) {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.is_writing = true;
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.in_time(cx, polled)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        ready!(this.in_time(cx, polled))?;
        // All of an answer is written before it is flushed.
        if std::mem::take(&mut this.is_writing) {
            this.deadline = None;
            this.connection.answered(Instant::now());
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut {
            let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.in_time(cx, polled))?;
            this.is_shut = true;
            this.deadline = Some(Box::pin(sleep(LINGER)));
            this.connection.waits();
        }
        if this.deadline.as_mut().is_none_or(|over| over.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Ok(()));
        }
        loop {
            let mut dropped = [0; READ_BYTES];
            let mut dropped = ReadBuf::new(&mut dropped);
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut dropped));
            if read.is_err() || dropped.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
