//! TLS implemented by the program, as the engine sees it: a layer of which any call may raise, or call the client.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use engine::rt::stream::{Layer, Stream};
use engine::tls::{Handshake, Offer, Secured, Tls, TlsInfo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Makes layers that pass all bytes on as they are.
#[derive(Clone, Default)]
pub struct ProgramTls {
    /// Whether reads fail.
    pub fails: Rc<Cell<bool>>,
    /// Called when a layer is dropped.
    pub on_drop: Option<Rc<dyn Fn()>>,
}

impl Tls for ProgramTls {
    fn handshake(&self, stream: Stream, _: Offer) -> Handshake {
        let stream = Stream::Layer(Box::new(ProgramLayer { stream, tls: self.clone() }));
        Box::pin(async { Ok(Secured { stream, facts: Rc::new(TlsInfo::default()) }) })
    }
}

struct ProgramLayer {
    stream: Stream,
    tls: ProgramTls,
}

impl Drop for ProgramLayer {
    fn drop(&mut self) {
        if let Some(on_drop) = &self.tls.on_drop {
            on_drop();
        }
    }
}

impl AsyncRead for ProgramLayer {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.tls.fails.get() {
            return Poll::Ready(Err(io::Error::other("raised in the program's code")));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ProgramLayer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Layer for ProgramLayer {}
