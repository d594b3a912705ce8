//! The body of an HTTP/1.1 response: its framing on the connection, and the reuse or close of the connection at its
//! end.

use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;
use wire::ResponseError;
use wire::framing::CloseCause;
use wire::framing::Step;

use crate::buffer::try_extend;
use crate::error::{Error, Kind, Phase, Result};
use crate::http1::connection::Connection;
use crate::pool::close_reason::CloseReason;
use crate::pool::held::Held;
use crate::pool::lease::Lease;

/// Size below which a read is extended by read-ahead, so that each small piece does not cost a system call.
const READ_AHEAD: usize = 8 * 1024;

/// A body on its connection. Dropping it before its end closes the connection.
pub(crate) struct Body {
    lease: Lease,
    framing: wire::Body,
    /// Why the connection is closed after the response, if it is.
    close: Option<CloseCause>,
    end: Option<End>,
}

/// How the end of a body was found.
#[derive(Clone, Copy)]
enum End {
    /// By the framing.
    Message,
    /// By the end of the connection.
    Connection,
}

impl Body {
    pub(crate) fn new(lease: Lease, framing: wire::Body, close: Option<CloseCause>) -> Self {
        Body { lease, framing, close, end: None }
    }

    pub(crate) fn connection(&mut self) -> Option<&mut Connection> {
        self.lease.connection()
    }

    /// Returns the number of bytes of the response received so far, including its head and framing.
    pub(crate) fn received(&mut self) -> u64 {
        let is_whole = matches!(self.end, Some(End::Message));
        self.connection().map_or(0, |connection| {
            let behind = if is_whole { connection.buffer.len() as u64 } else { 0 };
            connection.received.saturating_sub(behind)
        })
    }

    /// Returns how many bytes remain to be read, if the framing says so.
    pub(crate) fn remaining(&self) -> Option<u64> {
        self.framing.remaining()
    }

    /// Returns whether the body is at its end.
    pub(crate) fn is_at_end(&self) -> bool {
        self.end.is_some()
    }

    #[cold]
    pub(crate) fn fail(&mut self, kind: Kind) -> Error {
        match self.connection() {
            Some(connection) => connection.fail(kind, Phase::Body),
            None => Error::new(kind, Phase::Body),
        }
    }

    /// Notifies the connection's owner of the response that holds it.
    pub(crate) fn hold(&mut self, response: Box<dyn Held>) {
        self.lease.hold(response);
    }

    pub(crate) fn stop_waiting(&mut self) {
        if let Some(connection) = self.connection() {
            connection.stop_waiting();
        }
    }

    /// Returns the connection to its owner after the end of the body. Returns the framing, which has the trailers.
    pub(crate) fn finish(mut self) -> wire::Body {
        // Bytes behind a complete message belong to no request: the next one would take them for its response.
        let has_more = self.buffered() > 0;
        match (self.end, self.close) {
            (Some(End::Connection), _) => self.lease.end(CloseReason::Response(CloseCause::CloseDelimitedBody)),
            (_, Some(cause)) => self.lease.end(CloseReason::Response(cause)),
            (_, None) if has_more => self.lease.end(CloseReason::BytesBehind),
            (_, None) => self.lease.finish(),
        }
        self.framing
    }

    /// Closes the connection in the middle of the body.
    pub(crate) fn abandon(self, reason: CloseReason) -> wire::Body {
        self.lease.end(reason);
        self.framing
    }

    /// Reads the available bytes into `out`, or into `ready` if that saves system calls. Reads nothing only at the end.
    pub(crate) fn poll_into(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
        ready: &mut BytesMut,
    ) -> Poll<Result<()>> {
        match self.step()? {
            Step::End => Poll::Ready(Ok(())),
            Step::Data(left) if out.remaining() >= READ_AHEAD && self.buffered() == 0 => {
                self.poll_directly(cx, out, ready, left)
            }
            Step::Data(_) | Step::More => self.poll_more(cx, ready).map_ok(drop),
        }
    }

    /// Moves the available bytes into `ready`. Returns `false` at the end. An error may follow data: both are returned
    /// at once then.
    pub(crate) fn poll_more(&mut self, cx: &mut Context<'_>, ready: &mut BytesMut) -> Poll<Result<bool>> {
        let before = ready.len();
        loop {
            self.take_buffered(ready)?;
            if ready.len() > before {
                return Poll::Ready(Ok(true));
            }
            let connection = match self.lease.connection() {
                Some(connection) if self.end.is_none() => connection,
                _ => return Poll::Ready(Ok(false)),
            };
            if ready!(connection.poll_fill_or_time_out(cx, Phase::Body))? == 0 {
                self.end_of_input()?;
            }
        }
    }

    /// Moves into `ready` all that has arrived, without its framing.
    pub(crate) fn take_buffered(&mut self, ready: &mut BytesMut) -> Result<()> {
        while let Step::Data(left) = self.step()? {
            let Some(connection) = self.lease.connection() else { break };
            let length = connection.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if length == 0 {
                break;
            }
            let data = connection.buffer.split_to(length);
            if ready.is_empty() {
                *ready = data;
            } else {
                try_extend(ready, &data).map_err(|error| connection.fail(Kind::Io(error), Phase::Body))?;
            }
            self.framing.taken(length as u64);
        }
        Ok(())
    }

    /// Reads straight from the socket to where the caller wants it.
    fn poll_directly(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
        ready: &mut BytesMut,
        left: u64,
    ) -> Poll<Result<()>> {
        let Some(connection) = self.lease.connection() else { return Poll::Ready(Ok(())) };
        connection.check_deadline(Phase::Body)?;
        let limit = usize::try_from(left).unwrap_or(usize::MAX);
        match connection.poll_receive(cx, out, limit) {
            Poll::Ready(Ok(received)) => {
                connection.wait_timeout.reset();
                if received == 0 {
                    return Poll::Ready(self.end_of_input());
                }
                self.framing.taken(received as u64);
                // The read of the last byte returns the connection, not the read after it.
                Poll::Ready(self.take_buffered(ready))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(connection.fail(error.into(), Phase::Body))),
            Poll::Pending => connection.poll_timeout(cx, Phase::Body),
        }
    }

    fn buffered(&mut self) -> usize {
        self.connection().map_or(0, |connection| connection.buffer.len())
    }

    /// Reads framing off the front of what has arrived.
    fn step(&mut self) -> Result<Step> {
        let connection = match self.lease.connection() {
            Some(connection) if self.end.is_none() => connection,
            _ => return Ok(Step::End),
        };
        match self.framing.step(&connection.buffer) {
            Ok((used, step)) => {
                connection.buffer.advance(used);
                if step == Step::End {
                    self.end = Some(End::Message);
                }
                Ok(step)
            }
            Err(error) => Err(connection.fail(Kind::Response(error), Phase::Body)),
        }
    }

    fn end_of_input(&mut self) -> Result<()> {
        let is_cut = self.connection().is_some_and(|connection| connection.is_cut);
        let ended = match self.framing.end_of_input() {
            Ok(()) if is_cut => Err(ResponseError::EarlyEnd("the TLS connection was cut off without close_notify")),
            ended => ended,
        };
        ended.map_err(|error| self.fail(Kind::Response(error)))?;
        self.end = Some(End::Connection);
        Ok(())
    }
}
