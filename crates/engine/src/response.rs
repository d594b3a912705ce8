//! A response and its body. At the end of the body the connection goes back to the pool.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::{io, mem};

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;
use wire::framing::CloseCause;
use wire::{Framing, HeaderMap, Limits, ResponseError, ResponseHead};

use crate::error::{Error, Kind, Phase, Result};
use crate::http1::connection::Connection;
use crate::pool::close_reason::CloseReason;
use crate::pool::held::{Held, HeldBody, Size};
use crate::pool::lease::Lease;
use crate::rt::cancel::CancelToken;
use crate::rt::socket::Descriptor;
use crate::timings::Timings;
use crate::tls::TlsInfo;
use crate::{http1, http2};

/// A response whose body may still be in flight.
pub struct Response {
    /// Status line and header fields.
    pub head: ResponseHead,
    /// How the end of the body is known.
    pub framing: Framing,
    /// The body.
    pub body: Incoming,
    /// Durations of the request up to here.
    pub timings: Timings,
    /// The result of its connection's TLS handshake, if there was one.
    pub tls: Option<Rc<TlsInfo>>,
    /// The head of the request, for programs that show it.
    pub request_head: Vec<u8>,
    /// The connection after 101, or a 2xx to CONNECT, if the request keeps it: it carries another protocol. See
    /// `RawConnection::of_upgrade`.
    pub upgraded: Option<Box<Lease>>,
}

/// The body of a response. Dropping it before its end closes the connection.
pub struct Incoming {
    /// The framing of a body that has ended: it has the trailers.
    framing: wire::Body,
    transport: Transport,
    /// Bytes without framing that were not read yet.
    ready: BytesMut,
    close: Option<CloseCause>,
    state: BodyState,
    stop: Option<Rc<CancelToken>>,
    /// The trailers of a stream.
    trailers: Option<Box<HeaderMap>>,
    /// Arrival of the last byte.
    ended: Option<Instant>,
    /// Bytes of the whole response. Known once it is complete.
    received: u64,
}

/// Source of the rest of a body.
enum Transport {
    /// An HTTP/1.1 connection.
    Connection(http1::body::Body),
    /// A stream of an HTTP/2 connection.
    Stream(Box<http2::Body>),
    /// No source: the body is complete or has failed.
    None,
}

/// The state of a body without a source.
enum BodyState {
    /// Complete, or still in transfer.
    Good,
    /// Failed; the next read returns the error.
    Failing(Error),
    /// Failed; a read has returned the error.
    Failed,
}

impl Incoming {
    /// Creates the body of a response on an HTTP/1.1 connection, and takes the bytes that have already arrived. If the
    /// body is complete with them, the connection is returned here.
    pub(crate) fn of_connection(lease: Lease, framing: wire::Body, close: Option<CloseCause>, now: Instant) -> Self {
        let transport = Transport::Connection(http1::body::Body::new(lease, framing, close));
        let mut body = Incoming { transport, ended: Some(now), ..Incoming::none(close) };
        // The head is delivered even if the body is broken: reading the body returns the error.
        if let Transport::Connection(transport) = &mut body.transport
            && let Err(error) = transport.take_buffered(&mut body.ready)
        {
            let error = body.abandon(error);
            body.state = BodyState::Failing(error);
        }
        body.end_source();
        if !body.is_complete() {
            body.ended = None;
        }
        body
    }

    /// Creates an empty body.
    pub(crate) fn none(close: Option<CloseCause>) -> Self {
        let framing = wire::Body::new(Framing::None, &Limits::default());
        Incoming {
            framing,
            transport: Transport::None,
            ready: BytesMut::new(),
            close,
            state: BodyState::Good,
            stop: None,
            trailers: None,
            ended: None,
            received: 0,
        }
    }

    /// Creates the body of a 101, complete with its head of `received` bytes: the following bytes belong to another
    /// protocol.
    pub(crate) fn upgraded(now: Instant, received: u64) -> Self {
        Incoming { ended: Some(now), received, ..Incoming::none(Some(CloseCause::Upgraded)) }
    }

    /// Creates the body of a response on a stream, and takes the data that has already arrived. If the body is complete
    /// with it, the stream ends here.
    pub(crate) fn of_stream(stream: http2::Body, now: Instant) -> Self {
        // Only the stream knows where its end is; a failed one does not know the length.
        let framing = wire::Body::new(Framing::UntilClose, &Limits::default());
        let transport = Transport::Stream(Box::new(stream));
        let mut body = Incoming { transport, framing, ended: Some(now), ..Incoming::none(None) };
        if let Transport::Stream(stream) = &mut body.transport
            && let Err(error) = stream.take_arrived(&mut body.ready)
        {
            body.detach();
            body.state = BodyState::Failing(error);
        }
        body.end_source();
        if !body.is_complete() {
            body.ended = None;
        }
        body
    }

    /// Returns whether the message is complete. Some of it may still be [`ready`](Incoming::ready).
    pub fn is_complete(&self) -> bool {
        self.is_detached() && matches!(self.state, BodyState::Good)
    }

    /// Returns whether the connection is no longer needed: the message is complete, or broken.
    pub fn is_detached(&self) -> bool {
        matches!(self.transport, Transport::None)
    }

    /// Returns the arrival time of its last byte; `None` as long as it is not complete.
    pub fn ended(&self) -> Option<Instant> {
        self.ended
    }

    /// Returns the number of bytes of the response received so far, with head and framing, without the overhead of TLS
    /// and before content decoding. For HTTP/2 the fields count as they would be written in HTTP/1.1, and of frames
    /// only their content.
    pub fn received(&mut self) -> u64 {
        match &mut self.transport {
            Transport::Connection(body) => body.received(),
            Transport::Stream(stream) => stream.received(),
            Transport::None => self.received,
        }
    }

    /// Detaches the source: nothing more is read.
    fn detach(&mut self) -> Transport {
        self.received = self.received();
        mem::replace(&mut self.transport, Transport::None)
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.transport {
            Transport::Connection(body) => body.connection(),
            Transport::Stream(_) | Transport::None => None,
        }
    }

    /// Returns the descriptor of the socket, if it is one of the reactor's and serves this body alone.
    pub fn descriptor(&mut self) -> Option<&Descriptor> {
        self.connection().and_then(|connection| connection.descriptor())
    }

    /// Returns the limit of one wait for the peer; `None` if there is no limit, or no connection to wait for.
    pub fn wait_limit(&mut self) -> Option<Duration> {
        self.connection().and_then(|connection| connection.wait_timeout.limit())
    }

    /// Sets the limit of one wait for the peer, from the next one on. An HTTP/2 stream keeps its limit.
    pub fn set_wait_limit(&mut self, limit: Option<Duration>) {
        if let Some(connection) = self.connection() {
            let until = connection.wait_timeout.until();
            connection.wait_timeout.set(limit, until);
        }
    }

    /// Returns the token that cancels the next waits of [`read`](Incoming::read) and [`fetch`](Incoming::fetch); `None`
    /// if the body is detached from its connection.
    pub fn stop(&mut self) -> Option<Rc<CancelToken>> {
        if self.is_detached() {
            return None;
        }
        Some(self.stop.get_or_insert_default().clone())
    }

    /// Abandons the body. Returns an error with `reason` for the caller; later readers learn only that the body has
    /// failed.
    #[cold]
    pub fn give_up(&mut self, reason: &'static str) -> Error {
        let kind = Kind::Io(io::Error::new(io::ErrorKind::NotConnected, reason));
        let error = self.fail(kind);
        self.abandon(error)
    }

    #[cold]
    fn fail(&mut self, kind: Kind) -> Error {
        match &mut self.transport {
            Transport::Connection(body) => body.fail(kind),
            Transport::Stream(stream) => stream.fail(kind),
            Transport::None => Error::new(kind, Phase::Body),
        }
    }

    /// Returns the reason that the connection is not reused, if it is not.
    pub fn close_cause(&self) -> Option<CloseCause> {
        self.close
    }

    /// Returns the bytes without framing that were not read yet.
    pub fn ready(&mut self) -> &mut BytesMut {
        &mut self.ready
    }

    /// Returns the number of bytes that remain to be read, if the framing states it.
    pub fn remaining(&self) -> Option<u64> {
        if self.is_complete() {
            return Some(self.ready.len() as u64);
        }
        let left = match &self.transport {
            Transport::Connection(body) => body.remaining(),
            Transport::Stream(stream) => stream.remaining(),
            Transport::None => self.framing.remaining(),
        };
        left.map(|left| left + self.ready.len() as u64)
    }

    /// Returns the trailers of a chunked body or a stream, once that is complete.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_deref().or_else(|| self.framing.trailers())
    }

    /// Reads the available bytes into `out`. Reads nothing only at the end, unless `out` is full. The time limit of a
    /// wait continues to run if the caller gives up and polls again later; with [`read`](Incoming::read), each wait has
    /// a limit of its own.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if !self.ready.is_empty() {
                let length = self.ready.len().min(out.remaining());
                out.put_slice(self.ready.get(..length).unwrap_or_default());
                self.ready.advance(length);
                return Poll::Ready(Ok(()));
            }
            let polled = match &mut self.transport {
                Transport::Connection(body) => body.poll_into(cx, out, &mut self.ready),
                Transport::Stream(stream) => stream.poll_into(cx, out),
                Transport::None => return Poll::Ready(self.check()),
            };
            let polled = self.after_poll(polled, 0, ());
            if self.ready.is_empty() || !matches!(polled, Poll::Ready(Ok(()))) {
                return polled;
            }
        }
    }

    /// Waits for bytes and reads them into `out`. Reads nothing only at the end, unless `out` is full.
    pub async fn read(&mut self, out: &mut ReadBuf<'_>) -> Result<()> {
        let wait = Wait(self);
        poll_fn(|cx| match wait.0.poll_read(cx, out) {
            Poll::Pending => wait.0.poll_stop(cx),
            ready => ready,
        })
        .await
    }

    /// Reads until `out` is full or the body is at its end.
    pub async fn read_fully(&mut self, out: &mut ReadBuf<'_>) -> Result<()> {
        loop {
            let before = out.remaining();
            self.read(out).await?;
            if out.remaining() == 0 || out.remaining() == before {
                break;
            }
        }
        if let Transport::Stream(stream) = &self.transport
            && stream.lacks_its_end()
        {
            // The last byte was read: only trailers, or the bare end, are still to come.
            self.fetch().await?;
        }
        Ok(())
    }

    /// Waits for more bytes to be [`ready`](Incoming::ready). Returns `false` if there are none.
    pub async fn fetch(&mut self) -> Result<bool> {
        let wait = Wait(self);
        poll_fn(|cx| match wait.0.poll_fetch(cx) {
            Poll::Pending => wait.0.poll_stop(cx),
            ready => ready,
        })
        .await
    }

    /// Notifies the pool that `response`, whose body this is, holds a connection.
    pub fn hold(&mut self, response: Box<dyn Held>) {
        match &mut self.transport {
            Transport::Connection(body) => body.hold(response),
            Transport::Stream(stream) => stream.hold(response),
            Transport::None => {}
        }
    }

    /// Returns the outcome of a wait without a result: an error once it was cancelled.
    fn poll_stop<T>(&mut self, cx: &Context<'_>) -> Poll<Result<T>> {
        match &self.stop {
            Some(stop) if stop.is_cancelled() => Poll::Ready(Err(self.give_up("the response was released"))),
            Some(stop) => {
                stop.wake_later(cx);
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }

    fn poll_fetch(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        let before = self.ready.len();
        let polled = match &mut self.transport {
            Transport::Connection(body) => body.poll_more(cx, &mut self.ready),
            Transport::Stream(stream) => stream.poll_more(cx, &mut self.ready),
            Transport::None => return Poll::Ready(self.check().map(|()| false)),
        };
        self.after_poll(polled, before, true)
    }

    /// Releases a source that has failed or is at its end. An error that follows new bytes, those after the first
    /// `before` ones, is kept for the next read, regardless of packet boundaries: this one returns the bytes, and
    /// `delivered`.
    fn after_poll<T>(&mut self, polled: Poll<Result<T>>, before: usize, delivered: T) -> Poll<Result<T>> {
        self.end_source();
        match polled {
            Poll::Ready(Err(error)) => {
                let error = self.abandon(error);
                if self.ready.len() == before {
                    return Poll::Ready(Err(error));
                }
                self.state = BodyState::Failing(error);
                Poll::Ready(Ok(delivered))
            }
            polled => polled,
        }
    }

    /// Releases a source that is at its end.
    fn end_source(&mut self) {
        match &self.transport {
            Transport::Connection(body) if body.is_at_end() => {}
            Transport::Stream(stream) if stream.is_at_end() => {}
            _ => return,
        }
        let transport = self.detach();
        self.ended.get_or_insert_with(Instant::now);
        match transport {
            Transport::Connection(body) => self.framing = body.finish(),
            Transport::Stream(stream) => self.trailers = stream.into_trailers().map(Box::new),
            Transport::None => {}
        }
    }

    /// Closes the connection, or cancels the stream: nothing more of this body can be trusted.
    #[cold]
    fn abandon(&mut self, error: Error) -> Error {
        self.ended = None;
        match self.detach() {
            Transport::Connection(body) => self.framing = body.abandon(CloseReason::of(&error)),
            Transport::Stream(stream) => drop(stream),
            Transport::None => {}
        }
        self.state = BodyState::Failed;
        error
    }

    /// Returns the error of a body that has failed: a truncated body is never reported as complete.
    fn check(&mut self) -> Result<()> {
        if matches!(self.state, BodyState::Good) {
            return Ok(());
        }
        match mem::replace(&mut self.state, BodyState::Failed) {
            BodyState::Failing(error) => Err(error),
            _ => {
                let error = ResponseError::EarlyEnd("its body failed before");
                Err(Error::new(Kind::Response(error), Phase::Body))
            }
        }
    }
}

impl HeldBody for Incoming {
    fn size_ahead(&self, most: usize) -> Size {
        match self.remaining() {
            Some(left) if left <= most as u64 => Size::Bounded,
            Some(_) => Size::TooLarge,
            None if self.ready.len() <= most => Size::Unknown,
            None => Size::TooLarge,
        }
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<bool> {
        while !self.is_detached() {
            if matches!(self.size_ahead(most), Size::TooLarge) {
                return Poll::Ready(false);
            }
            match self.poll_fetch(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    let error = self.abandon(error);
                    self.state = BodyState::Failing(error);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(true)
    }

    fn stop_waiting(&mut self) {
        match &mut self.transport {
            Transport::Connection(body) => body.stop_waiting(),
            Transport::Stream(stream) => stream.stop_waiting(),
            Transport::None => {}
        }
    }
}

/// One wait for the body. Its end, even if the task gives up, resets everything: the next wait has the whole time limit
/// again, and no task is woken for this one.
struct Wait<'a>(&'a mut Incoming);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.stop_waiting();
        if let Some(stop) = &self.0.stop {
            stop.forget();
        }
    }
}
