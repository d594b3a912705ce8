//! A response, and its body as it comes in. When the body has come to its end, the connection goes back to the pool.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;
use std::{io, mem};

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;
use wire::body::Step;
use wire::framing::CloseReason;
use wire::{Body, Framing, HeaderMap, Limits, ResponseError, ResponseHead};

use crate::buffer::try_extend;
use crate::ending::Ending;
use crate::http2;
use crate::pool::Lease;
use crate::socket::Descriptor;
use crate::stop::Stop;
use crate::timings::Timings;
use crate::tls::Facts;
use crate::{Connection, Error, Kind, Phase, Result};

/// What is asked for in smaller pieces than this is read ahead, so that each piece does not cost a system call.
const READ_AHEAD: usize = 8 * 1024;

/// A response whose body may still be on its way.
pub struct Response {
    /// Status line and header fields.
    pub head: ResponseHead,
    /// How the body's end is known.
    pub framing: Framing,
    /// The body.
    pub body: Incoming,
    /// How long it took to get here.
    pub timings: Timings,
    /// What the TLS handshake of its connection has come to, if there was one.
    pub tls: Option<Rc<Facts>>,
    /// The head of the request that it answers, for those who want to show it.
    pub request_head: Vec<u8>,
}

/// The body of a response. Dropping it before its end closes the connection.
pub struct Incoming {
    framing: Body,
    source: Source,
    /// Decoded, and not yet taken.
    ready: BytesMut,
    close: Option<CloseReason>,
    fate: Fate,
    stop: Option<Rc<Stop>>,
    /// Those of a stream.
    trailers: Option<Box<HeaderMap>>,
    /// When the last byte had come.
    ended: Option<Instant>,
    /// Bytes of the whole response, known once it is complete.
    received: u64,
}

/// Where the rest of a body comes from.
enum Source {
    /// A connection of its own, which the framing says the end on.
    Connection(Lease),
    /// A stream of HTTP/2.
    Stream(Box<http2::Body>),
    /// Nowhere: nothing more comes.
    None,
}

/// Whether a body without a source is a whole one.
enum Fate {
    /// It is, or may yet become one.
    Good,
    /// It is not, and the next reader is told why.
    Failing(Error),
    /// It is not, and somebody was told.
    Failed,
}

impl Incoming {
    /// Takes what has already arrived; if that is all, the connection is given back here.
    pub(crate) fn new(lease: Lease, framing: Body, close: Option<CloseReason>, now: Instant) -> Self {
        let source = Source::Connection(lease);
        let mut body = Incoming { framing, source, ended: Some(now), ..Incoming::none(close) };
        // A head is worth having without its body: what is wrong with that is for its reader.
        if let Err(error) = body.decode_buffered() {
            body.fate = Fate::Failing(error);
        }
        if !body.is_complete() {
            body.ended = None;
        }
        body
    }

    /// No body at all.
    pub(crate) fn none(close: Option<CloseReason>) -> Self {
        let framing = Body::new(Framing::None, &Limits::default());
        Incoming {
            framing,
            source: Source::None,
            ready: BytesMut::new(),
            close,
            fate: Fate::Good,
            stop: None,
            trailers: None,
            ended: None,
            received: 0,
        }
    }

    /// That of a 101, complete with its head, which was so many bytes: what comes next is another protocol's.
    pub(crate) fn upgraded(now: Instant, received: u64) -> Self {
        Incoming { ended: Some(now), received, ..Incoming::none(Some(CloseReason::Upgraded)) }
    }

    /// On a stream: takes what has already arrived; if that is all, the stream is at its end here.
    pub(crate) fn of_stream(stream: http2::Body, now: Instant) -> Self {
        // Only the stream knows where its end is: one that has failed has nothing to say about that.
        let framing = Body::new(Framing::UntilClose, &Limits::default());
        let source = Source::Stream(Box::new(stream));
        let mut body = Incoming { source, framing, ended: Some(now), ..Incoming::none(None) };
        if let Source::Stream(stream) = &mut body.source
            && let Err(error) = stream.take_arrived(&mut body.ready)
        {
            body.detach();
            body.fate = Fate::Failing(error);
        }
        body.end_stream();
        if !body.is_complete() {
            body.ended = None;
        }
        body
    }

    /// Whether the message is complete. Some of it may still be [`ready`](Incoming::ready).
    pub fn is_complete(&self) -> bool {
        self.is_detached() && matches!(self.fate, Fate::Good)
    }

    /// Whether the connection is no longer needed: the message is complete, or broken.
    pub fn is_detached(&self) -> bool {
        matches!(self.source, Source::None)
    }

    /// When its last byte had come; `None` as long as it is not complete.
    pub fn ended(&self) -> Option<Instant> {
        self.ended
    }

    /// Bytes of the response, head and framing among them, as they came so far, below TLS's own and above content
    /// codings. By HTTP/2 the fields count as they would be written in HTTP/1.1, and of frames only what is in them.
    pub fn received(&mut self) -> u64 {
        match &mut self.source {
            Source::Connection(lease) => lease.connection().map_or(0, |connection| connection.received),
            Source::Stream(stream) => stream.received(),
            Source::None => self.received,
        }
    }

    /// Takes the source away: nothing more will come.
    fn detach(&mut self) -> Source {
        self.received = self.received();
        mem::replace(&mut self.source, Source::None)
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.source {
            Source::Connection(lease) => lease.connection(),
            Source::Stream(_) | Source::None => None,
        }
    }

    /// That of the socket which the body comes from, where it is one of the reactor's and this body's alone.
    pub fn descriptor(&mut self) -> Option<&Descriptor> {
        self.connection().and_then(|connection| connection.descriptor())
    }

    /// What ends the next waits of [`read`](Incoming::read) and [`fetch`](Incoming::fetch); `None` where there is nothing
    /// more to wait for.
    pub fn stop(&mut self) -> Option<Rc<Stop>> {
        if self.is_detached() {
            return None;
        }
        Some(self.stop.get_or_insert_default().clone())
    }

    /// Gives the body up for `reason`, which is told to nobody but the caller.
    #[cold]
    pub fn give_up(&mut self, reason: &'static str) -> Error {
        let kind = Kind::Io(io::Error::new(io::ErrorKind::NotConnected, reason));
        let error = self.fail(kind);
        self.abandon(error)
    }

    #[cold]
    fn fail(&mut self, kind: Kind) -> Error {
        match &mut self.source {
            Source::Connection(lease) => match lease.connection() {
                Some(connection) => connection.fail(kind, Phase::Body),
                None => Error::new(kind, Phase::Body),
            },
            Source::Stream(stream) => stream.fail(kind),
            Source::None => Error::new(kind, Phase::Body),
        }
    }

    /// Why the connection is not used again, where it is not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.close
    }

    /// What is decoded and waits to be taken.
    pub fn ready(&mut self) -> &mut BytesMut {
        &mut self.ready
    }

    /// How many bytes are still to be read, where the framing says so.
    pub fn remaining(&self) -> Option<u64> {
        if self.is_complete() {
            return Some(self.ready.len() as u64);
        }
        let left = match &self.source {
            Source::Stream(stream) => stream.remaining(),
            _ => self.framing.remaining(),
        };
        left.map(|left| left + self.ready.len() as u64)
    }

    /// What came behind a chunked body, or at the end of a stream, once that is complete.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_deref().or_else(|| self.framing.trailers())
    }

    /// Reads into `out` what there is: nothing only at the end, unless `out` is full. Who gives up waiting and comes
    /// back has waited all the time; with [`read`](Incoming::read), each wait is one of its own.
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
            if let Source::Stream(stream) = &mut self.source {
                let polled = stream.poll_into(cx, out);
                return self.after_stream(polled);
            }
            match self.next_step()? {
                Step::End => return Poll::Ready(Ok(())),
                Step::Data(left) if out.remaining() >= READ_AHEAD && self.buffered() == 0 => {
                    return self.poll_read_directly(cx, out, left);
                }
                Step::Data(_) | Step::More => match self.poll_fetch(cx) {
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    /// Reads into `out` what there is, once there is something: nothing only at the end, unless `out` is full.
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
        if let Source::Stream(stream) = &self.source
            && stream.lacks_its_end()
        {
            // The last byte was read: what is still to come are trailers, or the bare end.
            self.fetch().await?;
        }
        Ok(())
    }

    /// Waits for more bytes to be [`ready`](Incoming::ready): `false` when there are none.
    pub async fn fetch(&mut self) -> Result<bool> {
        let wait = Wait(self);
        poll_fn(|cx| match wait.0.poll_fetch(cx) {
            Poll::Pending => wait.0.poll_stop(cx),
            ready => ready,
        })
        .await
    }

    /// What a wait comes to when nothing has happened: an error once it is to stop.
    fn poll_stop<T>(&mut self, cx: &Context<'_>) -> Poll<Result<T>> {
        match &self.stop {
            Some(stop) if stop.is_asked() => Poll::Ready(Err(self.give_up("the response was released"))),
            Some(stop) => {
                stop.wake_later(cx);
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }

    fn poll_fetch(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        if let Source::Stream(stream) = &mut self.source {
            let polled = stream.poll_more(cx, &mut self.ready);
            return self.after_stream(polled);
        }
        let before = self.ready.len();
        loop {
            let decoded = self.decode_buffered();
            if self.ready.len() > before {
                // What came before an error is delivered before it, however the packets were cut.
                if let Err(error) = decoded {
                    self.fate = Fate::Failing(error);
                }
                return Poll::Ready(Ok(true));
            }
            decoded?;
            let Some(connection) = self.connection() else {
                return Poll::Ready(self.check().map(|()| false));
            };
            match connection.poll_fill_patiently(cx, Phase::Body) {
                Poll::Ready(Ok(0)) => self.end_of_input()?,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.abandon(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// A stream that has failed, or has come to its end, is let go of.
    fn after_stream<T>(&mut self, polled: Poll<Result<T>>) -> Poll<Result<T>> {
        self.end_stream();
        match polled {
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.abandon(error))),
            polled => polled,
        }
    }

    fn end_stream(&mut self) {
        match &self.source {
            Source::Stream(stream) if stream.is_at_end() => {}
            _ => return,
        }
        if let Source::Stream(stream) = self.detach() {
            self.ended.get_or_insert_with(Instant::now);
            self.trailers = stream.into_trailers().map(Box::new);
        }
    }

    /// Straight from the socket to where the caller wants it.
    fn poll_read_directly(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>, left: u64) -> Poll<Result<()>> {
        let Some(connection) = self.connection() else {
            return Poll::Ready(Ok(()));
        };
        if let Err(error) = connection.check_deadline(Phase::Body) {
            return Poll::Ready(Err(self.abandon(error)));
        }
        let limit = usize::try_from(left).unwrap_or(usize::MAX);
        match connection.poll_receive(cx, out, limit) {
            Poll::Ready(Ok(received)) => {
                connection.patience.reset();
                if received == 0 {
                    return Poll::Ready(self.end_of_input());
                }
                self.framing.taken(received as u64);
                // The last byte gives the connection back, not the read after it.
                Poll::Ready(self.decode_buffered())
            }
            Poll::Ready(Err(error)) => {
                let error = connection.fail(error.into(), Phase::Body);
                Poll::Ready(Err(self.abandon(error)))
            }
            Poll::Pending => match connection.poll_patience(cx, Phase::Body) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(self.abandon(error))),
                other => other,
            },
        }
    }

    fn buffered(&mut self) -> usize {
        self.connection().map_or(0, |connection| connection.buffer.len())
    }

    /// Takes the framing off all that has arrived, as far as that goes.
    fn decode_buffered(&mut self) -> Result<()> {
        while let Step::Data(left) = self.next_step()? {
            let Some(connection) = self.connection() else { break };
            let length = connection.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if length == 0 {
                break;
            }
            let data = connection.buffer.split_to(length);
            if self.ready.is_empty() {
                self.ready = data;
            } else if let Err(error) = try_extend(&mut self.ready, &data) {
                let error = self.fail(Kind::Io(error));
                return Err(self.abandon(error));
            }
            self.framing.taken(length as u64);
        }
        Ok(())
    }

    /// Reads framing off the front of what has arrived. At the message's end the connection is given back.
    fn next_step(&mut self) -> Result<Step> {
        let connection = match &mut self.source {
            Source::Connection(lease) => lease.connection(),
            Source::Stream(_) | Source::None => None,
        };
        let Some(connection) = connection else {
            self.check()?;
            return Ok(Step::End);
        };
        match self.framing.step(&connection.buffer) {
            Ok((used, step)) => {
                connection.buffer.advance(used);
                if step == Step::End {
                    self.finish();
                }
                Ok(step)
            }
            Err(error) => {
                let error = connection.fail(Kind::Response(error), Phase::Body);
                Err(self.abandon(error))
            }
        }
    }

    fn finish(&mut self) {
        // Bytes behind a complete message are nobody's: whoever came next on this connection would take them for his.
        let glued = self.buffered();
        let Source::Connection(lease) = self.detach() else { return };
        self.received = self.received.saturating_sub(glued as u64);
        self.ended.get_or_insert_with(Instant::now);
        match self.close {
            Some(reason) => lease.end(Ending::Response(reason)),
            None if glued > 0 => lease.end(Ending::BytesBehind),
            None => lease.finish(),
        }
    }

    fn end_of_input(&mut self) -> Result<()> {
        let is_cut = self.connection().is_some_and(|connection| connection.is_cut);
        match self.framing.end_of_input() {
            Ok(()) if is_cut => {
                Err(self.early_end(ResponseError::EarlyEnd("the TLS connection was cut off without close_notify")))
            }
            Ok(()) => {
                if let Source::Connection(lease) = self.detach() {
                    self.ended.get_or_insert_with(Instant::now);
                    lease.end(Ending::Response(CloseReason::CloseDelimitedBody));
                }
                Ok(())
            }
            Err(error) => Err(self.early_end(error)),
        }
    }

    #[cold]
    fn early_end(&mut self, error: ResponseError) -> Error {
        let error = self.fail(Kind::Response(error));
        self.abandon(error)
    }

    /// Closes the connection, or cancels the stream: nothing more of this body can be trusted.
    #[cold]
    fn abandon(&mut self, error: Error) -> Error {
        self.ended = None;
        match self.detach() {
            Source::Connection(lease) => lease.end(Ending::of(&error)),
            Source::Stream(stream) => drop(stream),
            Source::None => {}
        }
        self.fate = Fate::Failed;
        error
    }

    /// A body that was cut short never looks like one that has ended.
    fn check(&mut self) -> Result<()> {
        if matches!(self.fate, Fate::Good) {
            return Ok(());
        }
        match mem::replace(&mut self.fate, Fate::Failed) {
            Fate::Failing(error) => Err(error),
            _ => {
                let error = ResponseError::EarlyEnd("its body failed before");
                Err(Error::new(Kind::Response(error), Phase::Body))
            }
        }
    }
}

/// One wait for the body. At its end, and where its task gives up as well, nothing of it stays behind: the next wait has
/// all the patience again, and nobody is woken for this one.
struct Wait<'a>(&'a mut Incoming);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        match &mut self.0.source {
            Source::Connection(lease) => {
                if let Some(connection) = lease.connection() {
                    connection.stop_waiting();
                }
            }
            Source::Stream(stream) => stream.stop_waiting(),
            Source::None => {}
        }
        if let Some(stop) = &self.0.stop {
            stop.forget();
        }
    }
}
