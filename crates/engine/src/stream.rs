//! What a connection runs on.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tcp::TcpStream;

/// Any other byte stream: what a layer over TCP, or somebody else's socket, looks like to us.
pub trait Layer: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Layer for T {}

/// TCP is spelled out because it is the hot path; everything else is behind a pointer.
pub enum Stream {
    /// A byte stream of any kind.
    Layer(Box<dyn Layer>),
    /// Plain TCP.
    Tcp(TcpStream),
}

impl Stream {
    /// Reads at most `limit` bytes into `buffer`; none at the end.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(tcp) => tcp.poll_receive(cx, buffer, limit),
            Stream::Layer(layer) => {
                let mut part = ReadBuf::new(buffer.initialize_unfilled_to(limit.min(buffer.remaining())));
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
            (Stream::Tcp(tcp), [only]) => Pin::new(tcp).poll_write(cx, only),
            (Stream::Tcp(tcp), _) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            (Stream::Layer(layer), _) => Pin::new(layer).poll_write_vectored(cx, bufs),
        }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Stream::Tcp(tcp) => tcp.is_quiet(),
            Stream::Layer(_) => false,
        }
    }

    pub(crate) fn forget_waiters(&self) {
        if let Stream::Tcp(tcp) = self {
            tcp.forget_waiters();
        }
    }
}
