//! The body of a response on its stream: data, perhaps trailers, the end.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::ReadBuf;
use wire::{Framing, HeaderMap, Limits, ResponseError};

use super::error::{NO_ERROR, What};
use super::fields;
use super::stream::Stream;
use crate::buffer::try_extend;
use crate::error::{Error, Kind, Phase, Result};
use crate::pool::held::Held;

/// The most bytes of a body that are taken before it is read, if that is all of it: the peer's window limits the rest.
const AHEAD: usize = 64 * 1024;

/// A body. Dropped before its end, its stream is cancelled.
pub(crate) struct Body {
    stream: Stream,
    /// The rest of a frame that its reader had no room for.
    rest: Bytes,
    /// Bytes received so far, including the head.
    received: u64,
    /// Bytes that are still to come, if the peer has announced their number.
    left: Option<u64>,
    limits: Limits,
    trailers: Option<HeaderMap>,
    /// The response has no content by definition.
    is_empty: bool,
    at_end: bool,
}

impl Body {
    /// Creates the body behind a head that counts for `head` bytes.
    pub(super) fn new(stream: Stream, framing: Framing, limits: Limits, head: u64) -> Self {
        let left = match framing {
            Framing::Counted(length) => Some(length),
            Framing::None => Some(0),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let is_empty = framing == Framing::None;
        Body { stream, rest: Bytes::new(), received: head, left, limits, trailers: None, is_empty, at_end: false }
    }

    /// Returns how many bytes remain to be read, if the peer has announced their number.
    pub(crate) fn remaining(&self) -> Option<u64> {
        self.left.map(|left| left + self.rest.len() as u64)
    }

    /// Returns the number of bytes received so far, including the head.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Returns the trailers.
    pub(crate) fn into_trailers(self) -> Option<HeaderMap> {
        self.trailers
    }

    /// Returns whether all bytes that the peer has announced were taken, but the end has not come.
    pub(crate) fn lacks_its_end(&self) -> bool {
        self.left == Some(0) && self.rest.is_empty() && !self.at_end
    }

    /// Returns whether the body is at its end.
    pub(crate) fn is_at_end(&self) -> bool {
        self.at_end && self.rest.is_empty()
    }

    #[cold]
    pub(crate) fn fail(&self, kind: Kind) -> Error {
        self.stream.fail(kind, Phase::Body)
    }

    /// Notifies the connection's owner of the response that it belongs to.
    pub(crate) fn hold(&mut self, response: Box<dyn Held>) {
        self.stream.permit.hold(response);
    }

    pub(crate) fn stop_waiting(&mut self) {
        self.stream.stop_waiting();
    }

    /// Moves the data that has already arrived into `ready`, if it is little.
    pub(crate) fn take_arrived(&mut self, ready: &mut BytesMut) -> Result<()> {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        while ready.len() < AHEAD && !self.is_at_end() {
            match self.poll_piece(cx) {
                Poll::Ready(Ok(piece)) => self.keep(ready, &piece)?,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        self.stop_waiting();
        Ok(())
    }

    /// Reads the available bytes into `out`. Reads nothing only at the end.
    pub(crate) fn poll_into(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = out.filled().len();
        while out.remaining() > 0 && !self.is_at_end() {
            if self.rest.is_empty() {
                match self.poll_or_time_out(cx) {
                    Poll::Ready(Ok(piece)) => self.rest = piece,
                    // Data is delivered before the error behind it: the stream reports that again.
                    _ if out.filled().len() > before => break,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            let length = self.rest.len().min(out.remaining());
            out.put_slice(self.rest.get(..length).unwrap_or_default());
            self.rest.advance(length);
        }
        Poll::Ready(Ok(()))
    }

    /// Moves the available bytes into `ready`. Returns `false` at the end.
    pub(crate) fn poll_more(&mut self, cx: &mut Context<'_>, ready: &mut BytesMut) -> Poll<Result<bool>> {
        let before = ready.len();
        while ready.len() == before && !self.is_at_end() {
            let piece = if self.rest.is_empty() { ready!(self.poll_or_time_out(cx))? } else { self.rest.split_off(0) };
            self.keep(ready, &piece)?;
        }
        Poll::Ready(Ok(ready.len() > before))
    }

    fn keep(&self, ready: &mut BytesMut, piece: &[u8]) -> Result<()> {
        try_extend(ready, piece).map_err(|error| self.fail(Kind::Io(error)))
    }

    fn poll_or_time_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes>> {
        self.stream.check_deadline(Phase::Body)?;
        match self.poll_piece(cx) {
            Poll::Pending => self.stream.poll_timeout(cx, Phase::Body),
            ready => ready,
        }
    }

    /// Returns the next piece. It is empty if a frame has no data, or at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes>> {
        if self.at_end {
            return Poll::Ready(Ok(Bytes::new()));
        }
        match ready!(self.stream.poll_data(cx)) {
            Ok(Some(piece)) => {
                self.received += piece.len() as u64;
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(piece.len() as u64);
                }
                // The last byte ends it, not the read after it.
                self.at_end = self.stream.is_at_end();
                Poll::Ready(Ok(piece))
            }
            Ok(None) => {
                if let Some(trailers) = ready!(self.stream.poll_trailers(cx))? {
                    let trailers = fields::trailers(&trailers, &self.limits);
                    self.trailers = Some(trailers.map_err(|error| self.fail(Kind::Response(error)))?);
                }
                self.at_end = true;
                self.left = Some(0);
                Poll::Ready(Ok(Bytes::new()))
            }
            // A response without content is whole with its head. `Frames` ends those so that have a Content-Length.
            Err(error) if self.is_empty && is_end(&error) => {
                self.at_end = true;
                Poll::Ready(Ok(Bytes::new()))
            }
            Err(error) => Poll::Ready(Err(broken(error))),
        }
    }
}

/// Returns whether the peer has ended the stream without an error (RFC 9113 section 8.1).
fn is_end(error: &Error) -> bool {
    matches!(error.kind(), Kind::Http2(error) if error.code == NO_ERROR && error.what == What::Reset)
}

/// Returns the error of a connection that ended in the middle of a body: as for HTTP/1.1, the body is incomplete.
#[cold]
fn broken(error: Error) -> Error {
    if !matches!(error.kind(), Kind::Closed) {
        return error;
    }
    let kind = Kind::Response(ResponseError::EarlyEnd("the connection was closed before the end of the stream"));
    match error.peer() {
        Some(peer) => Error::new(kind, Phase::Body).with_peer(&peer.into()),
        None => Error::new(kind, Phase::Body),
    }
}
