//! What a connection runs on.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::socket::{Descriptor, Socket};

/// Bytes that a layer is asked for at once: room for what it decodes has to be cleared first.
const LAYER_READ: usize = 64 * 1024;

/// Any other byte stream: TLS, or somebody else's socket.
pub trait Layer: AsyncRead + AsyncWrite + Unpin {
    /// Whether an idle stream has nothing to say, as it must: bytes or an end that come unasked make it useless.
    fn is_quiet(&mut self) -> bool {
        false
    }

    /// Asks the kernel at the next read, whatever it has or has not told so far.
    fn look_again(&self) {}

    /// Forgets who waited: the next wait may be another task's.
    fn forget_waiters(&self) {}

    /// Gives back the memory that an idle stream does not need.
    fn rest(&mut self) {}
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
