//! The byte streams that connections run on.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::rt::socket::{Descriptor, Direction, Socket};

/// Bytes that a layer is asked for at once. This much memory has to be cleared before each read.
const LAYER_READ: usize = 64 * 1024;

/// Bytes of TLS records without data (session tickets, new keys) that a peer may send on a connection while it is idle.
/// The connection is closed if it sends more.
pub const MOST_UNSOLICITED: usize = 16 * 1024;

/// Any other byte stream: TLS, or a socket of the program.
pub trait Layer: AsyncRead + AsyncWrite + Unpin {
    /// Returns whether an idle stream has no bytes or end to read: after unsolicited bytes or an end it cannot be
    /// reused.
    fn is_idle_clean(&mut self) -> bool {
        false
    }

    /// Returns whether the last read was of all that the kernel had.
    fn is_drained(&self) -> bool {
        false
    }

    /// Returns whether the bytes read so far end where a TLS record does. The rest of one that was begun on an idle
    /// connection would be taken for the answer to the next request.
    fn is_whole(&self) -> bool {
        true
    }

    /// Returns the bytes of TLS records that have brought no data, since there was data or since the handshake.
    fn unsolicited(&self) -> usize {
        0
    }

    /// Asks the kernel at the next read, regardless of earlier events.
    fn mark_readable(&self) {}

    /// Forgets the task that waits in that direction: the next wait may be another task's.
    fn forget_waiter(&self, _direction: Direction) {}

    /// Gives back the memory that an idle stream does not need.
    fn release_buffers(&mut self) {}
}

/// Reads everything that has arrived on an idle TLS layer, and returns whether none of it was data. Session tickets and
/// new keys are harmless, up to [`MOST_UNSOLICITED`] bytes: more may fill the kernel's buffers, and hide data that the
/// peer has sent after them.
pub fn is_silent(layer: &mut impl Layer) -> io::Result<bool> {
    let mut byte = [0; 1];
    // Each read but the last finds at least a byte.
    for _ in 0..=MOST_UNSOLICITED {
        layer.mark_readable();
        let mut room = ReadBuf::new(&mut byte);
        let polled = Pin::new(&mut *layer).poll_read(&mut Context::from_waker(Waker::noop()), &mut room);
        layer.forget_waiter(Direction::Receive);
        layer.forget_waiter(Direction::Send);
        if let Poll::Ready(read) = polled {
            return read.map(|()| false);
        }
        if layer.unsolicited() > MOST_UNSOLICITED {
            return Ok(false);
        }
        if layer.is_drained() {
            return Ok(layer.is_whole());
        }
    }
    Ok(false)
}

/// A byte stream. The socket has a variant of its own because it is the hot path; everything else is behind a pointer.
pub enum Stream {
    /// A byte stream of any kind.
    Layer(Box<dyn Layer>),
    /// A socket, and nothing above it.
    Socket(Socket),
}

impl Stream {
    /// Returns the descriptor of the socket. The one below a layer is not known here.
    pub(crate) fn descriptor(&self) -> Option<Descriptor> {
        match self {
            Stream::Socket(socket) => Some(socket.descriptor()),
            Stream::Layer(_) => None,
        }
    }

    /// Reads at most `limit` bytes into `buffer`; none at the end.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Socket(socket) => socket.poll_receive(cx, buffer, limit),
            Stream::Layer(layer) => {
                let room = limit.min(buffer.remaining()).min(LAYER_READ);
                let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
                let polled = Pin::new(layer).poll_read(cx, &mut part);
                let received = part.filled().len();
                buffer.advance(received);
                polled.map_ok(|()| received)
            }
        }
    }

    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match (self, bufs) {
            // send(2) is cheaper than writev(2).
            (Stream::Socket(socket), [only]) => Pin::new(socket).poll_write(cx, only),
            (Stream::Socket(socket), _) => Pin::new(socket).poll_write_vectored(cx, bufs),
            (Stream::Layer(layer), _) => Pin::new(layer).poll_write_vectored(cx, bufs),
        }
    }

    /// Writes all bytes, and flushes them through a layer.
    pub(crate) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        poll_fn(|cx| self.poll_write_all(cx, &mut bytes)).await
    }

    /// [`write_all`](Self::write_all), for one poll. Removes what was written from the front of `bytes`.
    pub(crate) fn poll_write_all(&mut self, cx: &mut Context<'_>, bytes: &mut &[u8]) -> Poll<io::Result<()>> {
        while !bytes.is_empty() {
            match ready!(self.poll_send(cx, &[IoSlice::new(bytes)]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => *bytes = bytes.get(written..).unwrap_or_default(),
            }
        }
        if self.holds_back() { Pin::new(self).poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Returns whether a layer may hold back what was written, until it is flushed.
    pub(crate) fn holds_back(&self) -> bool {
        matches!(self, Stream::Layer(_))
    }

    /// [`Layer::is_idle_clean`], or that of the socket.
    pub fn is_idle_clean(&mut self) -> bool {
        match self {
            Stream::Socket(socket) => socket.is_idle_clean(),
            Stream::Layer(layer) => layer.is_idle_clean(),
        }
    }

    /// [`Layer::is_drained`], or that of the socket.
    pub fn is_drained(&self) -> bool {
        match self {
            Stream::Socket(socket) => socket.is_drained(),
            Stream::Layer(layer) => layer.is_drained(),
        }
    }

    /// [`Layer::is_whole`]; a socket has no records.
    pub fn is_whole(&self) -> bool {
        match self {
            Stream::Socket(_) => true,
            Stream::Layer(layer) => layer.is_whole(),
        }
    }

    /// [`Layer::unsolicited`]; a socket has no records.
    pub fn unsolicited(&self) -> usize {
        match self {
            Stream::Socket(_) => 0,
            Stream::Layer(layer) => layer.unsolicited(),
        }
    }

    /// [`Layer::mark_readable`], or that of the socket.
    pub fn mark_readable(&self) {
        match self {
            Stream::Socket(socket) => socket.mark_readable(),
            Stream::Layer(layer) => layer.mark_readable(),
        }
    }

    /// [`Layer::forget_waiter`], or that of the socket.
    pub fn forget_waiter(&self, direction: Direction) {
        match self {
            Stream::Socket(socket) => socket.forget_waiter(direction),
            Stream::Layer(layer) => layer.forget_waiter(direction),
        }
    }

    /// Forgets the waiting tasks of both directions.
    pub fn forget_waiters(&self) {
        self.forget_waiter(Direction::Receive);
        self.forget_waiter(Direction::Send);
    }

    /// [`Layer::release_buffers`]; a socket has no memory to release.
    pub fn release_buffers(&mut self) {
        if let Stream::Layer(layer) = self {
            layer.release_buffers();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Socket(socket) => Pin::new(socket).poll_read(cx, buf),
            Stream::Layer(layer) => Pin::new(layer).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Socket(socket) => Pin::new(socket).poll_write(cx, buf),
            Stream::Layer(layer) => Pin::new(layer).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Socket(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Stream::Layer(layer) => Pin::new(layer).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Socket(socket) => socket.is_write_vectored(),
            Stream::Layer(layer) => layer.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Socket(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Layer(layer) => Pin::new(layer).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Socket(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Layer(layer) => Pin::new(layer).poll_shutdown(cx),
        }
    }
}
