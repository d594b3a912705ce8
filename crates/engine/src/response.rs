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

use crate::ending::Ending;
use crate::pool::Lease;
use crate::socket::Descriptor;
use crate::stop::Stop;
use crate::tls::Facts;
use crate::{Error, Kind, Phase, Result};

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
    /// When the request was made.
    pub started: Instant,
    /// What the TLS handshake of its connection has come to, if there was one.
    pub tls: Option<Rc<Facts>>,
    /// The head of the request that it answers, for those who want to show it.
    pub request_head: Vec<u8>,
}

/// The body of a response. Dropping it before its end closes the connection.
pub struct Incoming {
    framing: Body,
    /// The connection, until the end of the body.
    lease: Option<Lease>,
    /// Decoded, and not yet taken.
    ready: BytesMut,
    close: Option<CloseReason>,
    fate: Fate,
    stop: Option<Rc<Stop>>,
}

/// Whether a body without a connection is a whole one.
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
    pub(crate) fn new(lease: Lease, framing: Body, close: Option<CloseReason>) -> Self {
        let mut body =
            Incoming { framing, lease: Some(lease), ready: BytesMut::new(), close, fate: Fate::Good, stop: None };
        // A head is worth having without its body: what is wrong with that is for its reader.
        if let Err(error) = body.decode_buffered() {
            body.fate = Fate::Failing(error);
        }
        body
    }

    /// No body at all.
    pub(crate) fn none(close: Option<CloseReason>) -> Self {
        let framing = Body::new(Framing::None, &Limits::default());
        Incoming { framing, lease: None, ready: BytesMut::new(), close, fate: Fate::Good, stop: None }
    }

    /// Whether the message is complete. Some of it may still be [`ready`](Incoming::ready).
    pub fn is_complete(&self) -> bool {
        self.lease.is_none() && matches!(self.fate, Fate::Good)
    }

    /// Whether the connection is no longer needed: the message is complete, or broken.
    pub fn is_detached(&self) -> bool {
        self.lease.is_none()
    }

    /// That of the socket which the body comes from, where it is one of the reactor's.
    pub fn descriptor(&mut self) -> Option<&Descriptor> {
        self.lease.as_mut().and_then(Lease::connection).and_then(|connection| connection.descriptor())
    }

    /// What ends the next waits of [`read`](Incoming::read) and [`fetch`](Incoming::fetch); `None` where there is nothing
    /// more to wait for.
    pub fn stop(&mut self) -> Option<Rc<Stop>> {
        self.lease.as_ref()?;
        Some(self.stop.get_or_insert_default().clone())
    }

    /// Gives the body up for `reason`, which is told to nobody but the caller.
    #[cold]
    pub fn give_up(&mut self, reason: &'static str) -> Error {
        let kind = Kind::Io(io::Error::new(io::ErrorKind::NotConnected, reason));
        let error = match self.lease.as_mut().and_then(Lease::connection) {
            Some(connection) => connection.fail(kind, Phase::Body),
            None => Error::new(kind, Phase::Body),
        };
        self.abandon(error)
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
        self.framing.remaining().map(|left| left + self.ready.len() as u64)
    }

    /// What came behind a chunked body, once that is complete.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.framing.trailers()
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
                return Ok(());
            }
        }
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
            let Some(connection) = self.lease.as_mut().and_then(Lease::connection) else {
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

    /// Straight from the socket to where the caller wants it.
    fn poll_read_directly(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>, left: u64) -> Poll<Result<()>> {
        let Some(connection) = self.lease.as_mut().and_then(Lease::connection) else {
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
        self.lease.as_mut().and_then(Lease::connection).map_or(0, |connection| connection.buffer.len())
    }

    /// Takes the framing off all that has arrived, as far as that goes.
    fn decode_buffered(&mut self) -> Result<()> {
        while let Step::Data(left) = self.next_step()? {
            let Some(connection) = self.lease.as_mut().and_then(Lease::connection) else { break };
            let length = connection.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if length == 0 {
                break;
            }
            let data = connection.buffer.split_to(length);
            self.framing.taken(length as u64);
            if self.ready.is_empty() {
                self.ready = data;
            } else {
                self.ready.extend_from_slice(&data);
            }
        }
        Ok(())
    }

    /// Reads framing off the front of what has arrived. At the message's end the connection is given back.
    fn next_step(&mut self) -> Result<Step> {
        let Some(connection) = self.lease.as_mut().and_then(Lease::connection) else {
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
        let glued = self.buffered() > 0;
        // Bytes behind a complete message are nobody's: whoever came next on this connection would take them for his.
        let Some(lease) = self.lease.take() else { return };
        match self.close {
            Some(reason) => lease.end(Ending::Response(reason)),
            None if glued => lease.end(Ending::BytesBehind),
            None => lease.finish(),
        }
    }

    fn end_of_input(&mut self) -> Result<()> {
        let is_cut = self.lease.as_mut().and_then(Lease::connection).is_some_and(|connection| connection.is_cut);
        match self.framing.end_of_input() {
            Ok(()) if is_cut => {
                Err(self.early_end(ResponseError::EarlyEnd("the TLS connection was cut off without close_notify")))
            }
            Ok(()) => {
                if let Some(lease) = self.lease.take() {
                    lease.end(Ending::Response(CloseReason::CloseDelimitedBody));
                }
                Ok(())
            }
            Err(error) => Err(self.early_end(error)),
        }
    }

    #[cold]
    fn early_end(&mut self, error: ResponseError) -> Error {
        let error = match self.lease.as_mut().and_then(Lease::connection) {
            Some(connection) => connection.fail(Kind::Response(error), Phase::Body),
            None => Error::new(Kind::Response(error), Phase::Body),
        };
        self.abandon(error)
    }

    /// Closes the connection: nothing more of this body can be trusted.
    #[cold]
    fn abandon(&mut self, error: Error) -> Error {
        if let Some(lease) = self.lease.take() {
            lease.end(Ending::of(&error));
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
        if let Some(connection) = self.0.lease.as_mut().and_then(Lease::connection) {
            connection.stop_waiting();
        }
        if let Some(stop) = &self.0.stop {
            stop.forget();
        }
    }
}
