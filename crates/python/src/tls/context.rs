//! TLS with a Python `SSLContext`, for the settings that programs make in one: its `wrap_bio` object is fed with
//! incoming bytes and returns outgoing ones. None of its methods waits: all waiting is done by the stream below.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use engine::rt::socket::Direction;
use engine::rt::stream::{Layer, Stream, is_silent};
use engine::tls::{Handshake, Offer, Records, Secured, Tls, TlsError, TlsInfo, Verify};
use engine::{BoxError, Kind};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::types;

/// Bytes that the SSLObject gets at once, and the most that it returns: one record.
const PIECE: usize = 16 * 1024;

/// Bytes that are read from the stream below at once: from a peer that sends little, and from one that sends much.
const READS: [usize; 2] = [4 * 1024, 64 * 1024];

/// A context for connections to one host. No session is resumed: CPython (3.10 to 3.13) leaks each one that is read,
/// some 7 KB.
pub(crate) struct ContextTls {
    context: Py<PyAny>,
    host: Option<String>,
}

/// Returns how far a context verifies now; the program may change it at any time.
fn checks(context: &Bound<'_, PyAny>) -> PyResult<Verify> {
    let py = context.py();
    let mode: i64 = context.getattr(intern!(py, "verify_mode"))?.extract()?;
    let name = context.getattr(intern!(py, "check_hostname"))?.is_truthy()?;
    Ok(match (mode, name) {
        (0, _) => Verify::No,
        (_, true) => Verify::Full,
        (_, false) => Verify::Chain,
    })
}

/// Calls `wrap` while the context offers HTTP/1.1 only; an SSLObject copies the offer when it is created. Then the
/// context offers again the protocols of a client of both versions.
fn offering_http1<'py>(
    context: &Bound<'py, PyAny>,
    wrap: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let set = intern!(context.py(), "set_alpn_protocols");
    context.call_method1(set, (["http/1.1"],))?;
    let wrapped = wrap();
    context.call_method1(set, (["h2", "http/1.1"],))?;
    wrapped
}

impl ContextTls {
    pub(crate) fn new(context: Py<PyAny>, host: Option<String>) -> Self {
        ContextTls { context, host }
    }
}

impl Tls for ContextTls {
    fn handshake(&self, stream: Stream, offer: Offer) -> Handshake {
        let made = Python::attach(|py| ContextStream::new(py, self, stream, offer));
        Box::pin(async move {
            let mut stream = made.map_err(of_caller)?;
            poll_fn(|cx| stream.poll_handshake(cx)).await?;
            let info = Python::attach(|py| stream.tls_info(py)).map_err(of_caller)?;
            Ok(Secured { stream: Stream::Layer(Box::new(stream)), facts: Rc::new(info) })
        })
    }
}

fn of_caller(error: PyErr) -> Kind {
    Kind::Caller(BoxError::from(error))
}

struct ContextStream {
    stream: Stream,
    /// `ssl.MemoryBIO`s of incoming and outgoing bytes.
    incoming: Py<PyAny>,
    outgoing: Py<PyAny>,
    /// `ssl.SSLObject`.
    object: Py<PyAny>,
    /// Taken from `outgoing`; the first `held_sent` bytes have been sent.
    held: Option<Py<PyBytes>>,
    held_sent: usize,
    scratch: Vec<u8>,
    /// The SSLObject has nothing left to decode: a call would only cost an exception.
    is_dry: bool,
    /// The SSLObject has got the end of the stream below.
    has_ended: bool,
    records: Records,
    verified: Verify,
    /// Raised where no caller can get it (a signal handler may raise at any time): the next write raises it.
    raised: Option<PyErr>,
}

/// The outcome of a call of the SSLObject.
enum Asked<T> {
    Done(T),
    /// It needs more incoming bytes.
    Wants,
    /// The peer has sent close_notify.
    Ended,
    /// The stream below ended without that announcement.
    Cut,
}

impl ContextStream {
    fn new(py: Python<'_>, tls: &ContextTls, stream: Stream, offer: Offer) -> PyResult<Self> {
        let bio = types::memory_bio(py)?;
        let (incoming, outgoing) = (bio.call0()?, bio.call0()?);
        let context = tls.context.bind(py);
        let verified = checks(context)?;
        let arguments = (&incoming, &outgoing, false, tls.host.as_deref());
        let wrap = || context.call_method1(intern!(py, "wrap_bio"), arguments);
        let object = if offer == Offer::Http1 { offering_http1(context, wrap) } else { wrap() }?;
        Ok(ContextStream {
            stream,
            incoming: incoming.unbind(),
            outgoing: outgoing.unbind(),
            object: object.unbind(),
            held: None,
            held_sent: 0,
            scratch: Vec::new(),
            is_dry: false,
            has_ended: false,
            records: Records::default(),
            verified,
            raised: None,
        })
    }

    fn tls_info(&self, py: Python<'_>) -> PyResult<TlsInfo> {
        let object = self.object.bind(py);
        let cipher: Option<(String, String, u32)> = object.call_method0(intern!(py, "cipher"))?.extract()?;
        Ok(TlsInfo {
            version: object.call_method0(intern!(py, "version"))?.extract::<Option<String>>()?.unwrap_or_default(),
            cipher: cipher.map(|(name, _, _)| name).unwrap_or_default(),
            alpn: object.call_method0(intern!(py, "selected_alpn_protocol"))?.extract()?,
            peer_certificate: object.call_method1(intern!(py, "getpeercert"), (true,))?.extract()?,
            verified: self.verified,
            resumed: object.getattr(intern!(py, "session_reused"))?.is_truthy()?,
        })
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Kind>> {
        let shaken = self.poll_asked(cx, |object| object.call_method0(intern!(object.py(), "do_handshake")).map(drop));
        match ready!(shaken) {
            Ok(Some(())) => {
                self.records.have_brought_data();
                self.poll_drain(cx).map_err(Kind::from)
            }
            Ok(None) => Poll::Ready(Err(Kind::Tls(TlsError::closed_in_handshake()))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Err(Kind::Tls(TlsError::closed_in_handshake())))
            }
            Err(error) => {
                // The peer gets the alert, if it takes it at once.
                let _ = self.poll_drain(cx);
                Poll::Ready(Err(error.into()))
            }
        }
    }

    /// Calls the SSLObject repeatedly, feeding it with incoming bytes, until it has a result; None at the end.
    fn poll_asked<T>(
        &mut self,
        cx: &mut Context<'_>,
        ask: impl Fn(&Bound<'_, PyAny>) -> PyResult<T>,
    ) -> Poll<io::Result<Option<T>>> {
        loop {
            let asked = Python::attach(|py| classify(py, ask(self.object.bind(py))));
            match asked.map_err(io::Error::other)? {
                Asked::Done(value) => return Poll::Ready(Ok(Some(value))),
                Asked::Ended => return Poll::Ready(Ok(None)),
                Asked::Cut => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                // The object may be of any class, and want more for ever after the end.
                Asked::Wants if self.has_ended => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Asked::Wants => ready!(self.poll_more(cx))?,
            }
        }
    }

    /// Waits for incoming bytes, and feeds the SSLObject with them.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_dry = true;
        // The peer may wait for the outgoing bytes before it sends more; whether it takes them or not, it may have
        // sent.
        let drained = self.poll_drain(cx);
        match (self.poll_feed(cx), drained) {
            // The socket reports a reset only once, here to the write: what follows is no clean end.
            (Poll::Ready(Ok(())), Poll::Ready(Err(error)))
                if self.has_ended && error.kind() == io::ErrorKind::ConnectionReset =>
            {
                Poll::Ready(Err(error))
            }
            (Poll::Ready(fed), _) => {
                self.is_dry = false;
                Poll::Ready(fed)
            }
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            (Poll::Pending, _) => Poll::Pending,
        }
    }

    /// Feeds the SSLObject with incoming bytes.
    fn poll_feed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.scratch.is_empty() {
            self.scratch.resize(READS[0], 0);
        }
        let mut room = ReadBuf::new(&mut self.scratch);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        let is_full = room.remaining() == 0;
        self.has_ended = room.filled().is_empty();
        self.records.pass(room.filled());
        let fed = Python::attach(|py| match room.filled() {
            [] => self.incoming.call_method0(py, intern!(py, "write_eof")),
            filled => self.incoming.call_method1(py, intern!(py, "write"), (PyBytes::new(py, filled),)),
        });
        if is_full {
            self.scratch.resize(READS[1], 0);
        }
        Poll::Ready(fed.map(drop).map_err(io::Error::other))
    }

    /// Sends all outgoing bytes of the SSLObject.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.held.is_none() {
                let taken = Python::attach(|py| {
                    let outgoing = self.outgoing.bind(py);
                    let taken = outgoing.call_method0(intern!(py, "read"))?.cast_into::<PyBytes>()?;
                    Ok::<_, PyErr>((!taken.as_bytes().is_empty()).then(|| taken.unbind()))
                });
                self.held = taken.map_err(io::Error::other)?;
                self.held_sent = 0;
            }
            let Some(held) = &self.held else { return Poll::Ready(Ok(())) };
            let stream = Pin::new(&mut self.stream);
            let polled = Python::attach(|py| {
                let left = held.as_bytes(py).get(self.held_sent..).unwrap_or_default();
                stream.poll_write(cx, left).map_ok(|sent| (sent, sent == left.len()))
            });
            match ready!(polled)? {
                (0, _) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                (_, true) => self.held = None,
                (sent, false) => self.held_sent = self.held_sent.saturating_add(sent),
            }
        }
    }

    fn has_nothing(&mut self) -> io::Result<bool> {
        if !self.is_dry {
            self.is_dry = !Python::attach(|py| self.has_more(py)).map_err(io::Error::other)?;
        }
        is_silent(self)
    }

    fn has_more(&self, py: Python<'_>) -> PyResult<bool> {
        let decoded: usize = self.object.call_method0(py, intern!(py, "pending"))?.extract(py)?;
        let encoded: usize = self.incoming.getattr(py, intern!(py, "pending"))?.extract(py)?;
        Ok(decoded > 0 || encoded > 0)
    }
}

/// Refuses a count of bytes larger than an SSLObject was given, or asked for: the object may be of any class.
fn within_bounds(method: &str, count: usize, most: usize) -> PyResult<()> {
    if count <= most {
        return Ok(());
    }
    Err(PyValueError::new_err(format!(
        "{method}() of the SSLContext's object says {count} bytes, and {most} is the most"
    )))
}

fn classify<T>(py: Python<'_>, result: PyResult<T>) -> PyResult<Asked<T>> {
    let error = match result {
        Ok(value) => return Ok(Asked::Done(value)),
        Err(error) => error,
    };
    for (class, asked) in [
        (types::ssl_want_read(py)?, Asked::Wants),
        (types::ssl_zero_return(py)?, Asked::Ended),
        (types::ssl_eof(py)?, Asked::Cut),
    ] {
        if error.is_instance(py, class) {
            return Ok(asked);
        }
    }
    Err(error)
}

impl Layer for ContextStream {
    fn is_idle_clean(&mut self) -> bool {
        self.has_nothing().unwrap_or_else(|error| {
            // An exception other than a TLS error does not concern the connection: it is raised to the caller.
            self.raised = error.downcast::<PyErr>().ok().filter(|raised| {
                Python::attach(|py| types::ssl_error(py).is_ok_and(|class| !raised.is_instance(py, class)))
            });
            self.raised.is_some()
        })
    }

    fn is_drained(&self) -> bool {
        self.stream.is_drained()
    }

    fn is_whole(&self) -> bool {
        self.records.is_whole() && self.stream.is_whole()
    }

    fn unsolicited(&self) -> usize {
        self.records.unsolicited().max(self.stream.unsolicited())
    }

    fn mark_readable(&self) {
        self.stream.mark_readable();
    }

    fn forget_waiter(&self, direction: Direction) {
        self.stream.forget_waiter(direction);
    }

    fn release_buffers(&mut self) {
        if self.scratch.len() > READS[0] {
            self.scratch = Vec::new();
        }
        self.stream.release_buffers();
    }
}

impl AsyncRead for ContextStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buf.remaining().min(PIECE);
        if self.is_dry {
            ready!(self.poll_more(cx))?;
        }
        let read = self.poll_asked(cx, |object| {
            let read = object.call_method1(intern!(object.py(), "read"), (room,))?.cast_into::<PyBytes>()?;
            within_bounds("read", read.as_bytes().len(), room)?;
            Ok(read.unbind())
        });
        if let Some(read) = ready!(read)? {
            let more = Python::attach(|py| {
                buf.put_slice(read.as_bytes(py));
                self.has_more(py)
            });
            self.records.have_brought_data();
            self.is_dry = !more.map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ContextStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(raised) = self.raised.take() {
            return Poll::Ready(Err(io::Error::other(raised)));
        }
        // The bytes taken before go first: no more than one piece is ever held.
        ready!(self.poll_drain(cx))?;
        let mut piece = Vec::with_capacity(bufs.iter().map(|buf| buf.len()).sum::<usize>().min(PIECE));
        for buf in bufs {
            let room = PIECE.saturating_sub(piece.len());
            piece.extend_from_slice(buf.get(..room).unwrap_or(buf));
        }
        if piece.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let written = self.poll_asked(cx, |object| {
            let py = object.py();
            let written = object.call_method1(intern!(py, "write"), (PyBytes::new(py, &piece),))?.extract::<usize>()?;
            within_bounds("write", written, piece.len())?;
            Ok(written)
        });
        let written = ready!(written)?.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        // Bytes that are not sent now are sent with the next write, or with the flush.
        match self.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(written)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
