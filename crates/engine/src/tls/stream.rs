//! The bytes after the handshake.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;

use super::records::Records;
use super::words;
use crate::rt::socket::Direction;
use crate::rt::stream::{Layer, Stream, is_silent};

/// Number of bytes that are read at once from a peer that always has more: a few TLS records of up to 16 KiB each.
const READ_AHEAD: usize = 64 * 1024;

/// A TLS stream over another stream.
pub(super) struct TlsStream(tokio_rustls::client::TlsStream<ReadAhead>);

impl TlsStream {
    pub(super) fn connect(
        connector: TlsConnector,
        name: ServerName<'static>,
        stream: Stream,
    ) -> impl Future<Output = io::Result<Self>> {
        let connecting = connector.connect(name, ReadAhead::new(stream));
        async move {
            let mut connected = connecting.await.map_err(explained)?;
            connected.get_mut().0.records.have_brought_data();
            Ok(TlsStream(connected))
        }
    }

    pub(super) fn session(&self) -> &ClientConnection {
        self.0.get_ref().1
    }

    fn below(&self) -> &ReadAhead {
        self.0.get_ref().0
    }
}

impl Layer for TlsStream {
    fn is_idle_clean(&mut self) -> bool {
        is_silent(self).unwrap_or(false)
    }

    fn is_drained(&self) -> bool {
        self.below().stream.is_drained()
    }

    fn is_whole(&self) -> bool {
        self.below().records.is_whole() && self.below().stream.is_whole()
    }

    fn unsolicited(&self) -> usize {
        self.below().records.unsolicited().max(self.below().stream.unsolicited())
    }

    fn mark_readable(&self) {
        self.below().stream.mark_readable();
    }

    fn forget_waiter(&self, direction: Direction) {
        self.below().stream.forget_waiter(direction);
    }

    fn release_buffers(&mut self) {
        let below = self.0.get_mut().0;
        below.release_buffers();
        below.stream.release_buffers();
    }
}

impl Drop for TlsStream {
    /// Sends close_notify before the close (RFC 8446 section 6.1) if the socket accepts it at once. A socket that this
    /// process or thread no longer owns (in the child of a fork, or after the end of its thread) accepts nothing.
    fn drop(&mut self) {
        self.0.get_mut().1.send_close_notify();
        let _ = Pin::new(&mut self.0).poll_flush(&mut Context::from_waker(Waker::noop()));
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.0).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.0.get_mut().0.records.have_brought_data();
        }
        polled.map_err(explained)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf).map_err(explained)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs).map_err(explained)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx).map_err(explained)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx).map_err(explained)
    }
}

/// Replaces an error of rustls, reported through an error of the stream, by a [`TlsError`](super::error::TlsError).
#[cold]
fn explained(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls) => io::Error::new(error.kind(), words::of(rustls)),
        None => error,
    }
}

/// Reader with larger reads than those of rustls, which requests 4 KiB per read: a large download would need four
/// system calls per record. A read that fills its buffer is followed by larger ones.
struct ReadAhead {
    stream: Stream,
    /// The buffer, which is allocated only if the peer sends much.
    ahead: Vec<u8>,
    /// Start of the bytes in it that were received and not yet consumed.
    start: usize,
    end: usize,
    is_busy: bool,
    records: Records,
}

impl ReadAhead {
    fn new(stream: Stream) -> Self {
        ReadAhead { stream, ahead: Vec::new(), start: 0, end: 0, is_busy: false, records: Records::default() }
    }

    fn release_buffers(&mut self) {
        self.is_busy = false;
        if self.start == self.end {
            self.ahead = Vec::new();
            (self.start, self.end) = (0, 0);
        }
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let ReadAhead { stream, ahead, start, end, is_busy, records } = self.get_mut();
        if start == end {
            let room = buf.remaining();
            if !*is_busy {
                let before = buf.filled().len();
                let received = ready!(stream.poll_receive(cx, buf, room))?;
                records.pass(buf.filled().get(before..).unwrap_or_default());
                *is_busy = received == room;
                return Poll::Ready(Ok(()));
            }
            ahead.resize(READ_AHEAD, 0);
            let mut all = ReadBuf::new(ahead);
            let received = ready!(stream.poll_receive(cx, &mut all, READ_AHEAD))?;
            records.pass(all.filled());
            (*start, *end) = (0, received);
        }
        let rest = ahead.get(*start..*end).unwrap_or_default();
        let taken = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..taken).unwrap_or_default());
        *start += taken;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
