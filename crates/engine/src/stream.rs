//! What a connection runs on.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::socket::{Descriptor, Socket};

/// Bytes that a layer is asked for at once: room for what it decodes has to be cleared first.
const LAYER_READ: usize = 64 * 1024;

/// Bytes of TLS records without data (session tickets, new keys) that a peer may send on a connection while it is idle.
/// One that sends more has it closed.
pub const MOST_UNASKED: usize = 16 * 1024;

/// Any other byte stream: TLS, or somebody else's socket.
pub trait Layer: AsyncRead + AsyncWrite + Unpin {
    /// Whether an idle stream has nothing to say, as it must: bytes or an end that come unasked make it useless.
    fn is_quiet(&mut self) -> bool {
        false
    }

    /// Whether the last read was of all that the kernel had.
    fn is_drained(&self) -> bool {
        false
    }

    /// Whether what was read ends where a record of TLS does. One that is begun on an idle connection would be taken
    /// for the answer to the next request, once it is there.
    fn is_whole(&self) -> bool {
        true
    }

    /// Bytes of TLS records that have brought no data, since there was data or since the handshake.
    fn unasked(&self) -> usize {
        0
    }

    /// Asks the kernel at the next read, whatever it has or has not told so far.
    fn look_again(&self) {}

    /// Forgets who waited: the next wait may be another task's.
    fn forget_waiters(&self) {}

    /// Gives back the memory that an idle stream does not need.
    fn rest(&mut self) {}
}

/// Reads what has come on an idle layer of TLS until the kernel has no more, and returns whether none of it was data.
/// Session tickets and new keys are harmless, up to [`MOST_UNASKED`] bytes: more may fill the kernel's buffers, and
/// hide what the peer has sent after them.
pub fn is_silent(layer: &mut impl Layer) -> io::Result<bool> {
    let mut byte = [0; 1];
    // Each look but the last finds at least a byte.
    for _ in 0..=MOST_UNASKED {
        layer.look_again();
        let mut room = ReadBuf::new(&mut byte);
        let polled = Pin::new(&mut *layer).poll_read(&mut Context::from_waker(Waker::noop()), &mut room);
        layer.forget_waiters();
        if let Poll::Ready(read) = polled {
            return read.map(|()| false);
        }
        if layer.unasked() > MOST_UNASKED {
            return Ok(false);
        }
        if layer.is_drained() {
            return Ok(layer.is_whole());
        }
    }
    Ok(false)
}

/// A socket is spelled out because it is the hot path; everything else is behind a pointer.
pub enum Stream {
    /// A byte stream of any kind.
    Layer(Box<dyn Layer>),
    /// A socket, and nothing above it.
    Socket(Socket),
}

impl Stream {
    /// That of the socket; what is below a layer is not known here.
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

    /// Whether what was written may still be held back by a layer, until it is flushed.
    pub(crate) fn holds_back(&self) -> bool {
        matches!(self, Stream::Layer(_))
    }

    /// [`Layer::is_quiet`], or that of the socket.
    pub fn is_quiet(&mut self) -> bool {
        match self {
            Stream::Socket(socket) => socket.is_quiet(),
            Stream::Layer(layer) => layer.is_quiet(),
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

    /// [`Layer::unasked`]; a socket has no records.
    pub fn unasked(&self) -> usize {
        match self {
            Stream::Socket(_) => 0,
            Stream::Layer(layer) => layer.unasked(),
        }
    }

    /// [`Layer::look_again`], or that of the socket.
    pub fn look_again(&self) {
        match self {
            Stream::Socket(socket) => socket.look_again(),
            Stream::Layer(layer) => layer.look_again(),
        }
    }

    /// [`Layer::forget_waiters`], or that of the socket.
    pub fn forget_waiters(&self) {
        match self {
            Stream::Socket(socket) => socket.forget_waiters(),
            Stream::Layer(layer) => layer.forget_waiters(),
        }
    }

    /// [`Layer::rest`]; a socket has nothing to give back.
    pub fn rest(&mut self) {
        if let Stream::Layer(layer) = self {
            layer.rest();
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
