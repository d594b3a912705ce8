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
use crate::stream::{Layer, Stream, is_silent};

/// Bytes that are read at once from a peer that always has more: some records of TLS, of up to 16 KiB each.
const READ_AHEAD: usize = 64 * 1024;

/// A stream of TLS over another stream.
pub(super) struct TlsStream(tokio_rustls::client::TlsStream<ReadAhead>);

impl TlsStream {
    pub(super) fn connect(
        connector: TlsConnector,
        name: ServerName<'static>,
        stream: Stream,
    ) -> impl Future<Output = io::Result<Self>> {
        let connecting = connector.connect(name, ReadAhead::new(stream));
        async move {
            let mut connected = connecting.await?;
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
    fn is_quiet(&mut self) -> bool {
        is_silent(self).unwrap_or(false)
    }

    fn is_drained(&self) -> bool {
        self.below().stream.is_drained()
    }

    fn is_whole(&self) -> bool {
        self.below().records.is_whole() && self.below().stream.is_whole()
    }

    fn unasked(&self) -> usize {
        self.below().records.unasked().max(self.below().stream.unasked())
    }

    fn look_again(&self) {
        self.below().stream.look_again();
    }

    fn forget_waiters(&self) {
        self.below().stream.forget_waiters();
    }

    fn rest(&mut self) {
        let below = self.0.get_mut().0;
        below.rest();
        below.stream.rest();
    }
}

impl Drop for TlsStream {
    /// RFC 8446 section 6.1: a goodbye before the close, if the socket takes it at once. One that is no longer ours (the
    /// child of a fork has it, or a thread that ended) takes nothing.
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
        polled
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// rustls asks for 4 KiB at a time, which a large download would pay for with four system calls per record: what fills
/// that is followed by larger reads.
struct ReadAhead {
    stream: Stream,
    /// Without memory unless the peer has much to say.
    ahead: Vec<u8>,
    /// What of it is read and not yet taken.
    start: usize,
    end: usize,
    is_busy: bool,
    records: Records,
}

impl ReadAhead {
    fn new(stream: Stream) -> Self {
        ReadAhead { stream, ahead: Vec::new(), start: 0, end: 0, is_busy: false, records: Records::default() }
    }

    fn rest(&mut self) {
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
