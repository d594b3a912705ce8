//! Sending a request while listening: the peer may answer before it has all of it (RFC 9112 section 9.5).

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wire::{Limits, ResponseHead, chunked};

use crate::error::{Error, Kind, Phase, Result};
use crate::http1::connection::Connection;
use crate::request::{FileBody, Request, RequestBody, TrailerSource};
use crate::rt::reactor::Reactor;
use crate::rt::stream::Stream;
use crate::rt::timeout::WaitTimeout;
use std::rc::Rc;

/// Time that the body waits for a `100 Continue` (RFC 9110 section 10.1.1 leaves it to the client; curl and Go wait as
/// long).
pub(crate) const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of a file that are read at once if the kernel cannot send them by itself.
const FILE_PIECE: usize = 64 * 1024;

/// How a request was sent.
pub(crate) enum Sent {
    /// Completely; perhaps with an early response that did not stop it. Heads are boxed here, since early ones are
    /// rare, and each waiting request has room for them.
    Whole(Option<Box<ResponseHead>>),
    /// Not completely: the final response came first. The connection cannot be used again.
    Cut(Box<ResponseHead>),
}

/// A failure to send, and whether no byte of the request has left.
pub(crate) struct SendError {
    pub(crate) error: Error,
    pub(crate) nothing_left: bool,
}

struct Sender<'a> {
    connection: &'a mut Connection,
    limits: &'a Limits,
    /// Bytes that the kernel has taken.
    sent: u64,
    /// Whether the exchange still checks for an early response.
    listening: bool,
    /// A final head that came early but does not stop the request.
    early: Option<Box<ResponseHead>>,
}

/// Sends the request.
pub(crate) async fn send(
    reactor: &Rc<Reactor>,
    connection: &mut Connection,
    request: &mut Request,
    limits: &Limits,
) -> std::result::Result<Sent, SendError> {
    let mut sender = Sender { connection, limits, sent: 0, listening: true, early: None };
    let sent = sender.send(reactor, request).await;
    let nothing_left = sender.sent == 0;
    match sent {
        Ok(None) => Ok(Sent::Whole(sender.early.take())),
        Ok(Some(head)) => Ok(Sent::Cut(head)),
        Err(error) if nothing_left || !error.is_disconnect() => Err(SendError { error, nothing_left }),
        // The peer has closed the connection; it may have sent the reason before that.
        Err(error) => match Box::pin(sender.last_words()).await {
            Ok(head) => Ok(Sent::Cut(Box::new(head))),
            // A TLS alert is the reason.
            Err(why) if matches!(why.kind(), Kind::Tls(_) | Kind::Io(_)) && !why.is_disconnect() => {
                Err(SendError { error: why, nothing_left })
            }
            Err(_) => Err(SendError { error, nothing_left }),
        },
    }
}

impl Sender<'_> {
    /// Sends the request. Returns the final head if it came before the end.
    async fn send(&mut self, reactor: &Rc<Reactor>, request: &mut Request) -> Result<Option<Box<ResponseHead>>> {
        if let Some(trailers) = request.trailers.as_mut() {
            let expects_continue = request.expects_continue && !request.body.is_empty();
            let reactor = expects_continue.then_some(reactor);
            return Box::pin(self.with_trailers(reactor, &request.head, &mut request.body, trailers.as_mut())).await;
        }
        if request.expects_continue && !request.body.is_empty() {
            let early = Box::pin(self.send_head_first(reactor, &request.head)).await?;
            return if early.is_some() { Ok(early) } else { self.body(&[], &mut request.body).await };
        }
        self.body(&request.head, &mut request.body).await
    }

    /// Sends the body. The head, if it was not sent before, leaves in one write with the body's first bytes. Rare cases
    /// are boxed, here and elsewhere on the way: a request that waits is this future, and a greenlet's stack is copied
    /// with it.
    async fn body(&mut self, head: &[u8], body: &mut RequestBody) -> Result<Option<Box<ResponseHead>>> {
        match body {
            RequestBody::Bytes(bytes) => self.write([head, bytes, b""]).await,
            streamed => Box::pin(self.streamed(head, streamed)).await,
        }
    }

    async fn streamed(&mut self, head: &[u8], body: &mut RequestBody) -> Result<Option<Box<ResponseHead>>> {
        match body {
            RequestBody::Bytes(bytes) => self.write([head, bytes, b""]).await,
            RequestBody::File(file) => {
                let stopped = self.write([head, b"", b""]).await?;
                if stopped.is_some() { Ok(stopped) } else { self.file(file).await }
            }
            RequestBody::Chunked(source) => {
                let stopped = self.write([head, b"", b""]).await?;
                if stopped.is_some() {
                    return Ok(stopped);
                }
                let stopped = self.chunks(source).await?;
                if stopped.is_some() { Ok(stopped) } else { self.write([chunked::LAST_CHUNK, b"", b""]).await }
            }
            RequestBody::Counted(source, length) => {
                let stopped = self.write([head, b"", b""]).await?;
                if stopped.is_some() {
                    return Ok(stopped);
                }
                let mut left = *length;
                while let Some(piece) = self.next_piece(source).await? {
                    left = left.checked_sub(piece.len() as u64).ok_or_else(|| {
                        self.connection.fail(Kind::Misuse("the body is longer than its Content-Length"), Phase::Send)
                    })?;
                    let stopped = self.write([&piece, b"", b""]).await?;
                    if stopped.is_some() {
                        return Ok(stopped);
                    }
                }
                if left > 0 {
                    let what = Kind::Misuse("the body is shorter than its Content-Length");
                    return Err(self.connection.fail(what, Phase::Send));
                }
                Ok(None)
            }
        }
    }

    /// Sends each piece as a chunk, without the last chunk.
    async fn chunks(&mut self, source: &mut Box<dyn crate::request::BodySource>) -> Result<Option<Box<ResponseHead>>> {
        while let Some(piece) = self.next_piece(source).await? {
            // An empty chunk would end the body.
            if !piece.is_empty() {
                let size = chunked::size_line(piece.len() as u64);
                let stopped = self.write([size.as_bytes(), &piece, b"\r\n"]).await?;
                if stopped.is_some() {
                    return Ok(stopped);
                }
            }
        }
        Ok(None)
    }

    /// Sends the whole request, with any body as chunks, and the trailers behind it. With a `reactor` it waits for `100
    /// Continue` before the body.
    async fn with_trailers(
        &mut self,
        reactor: Option<&Rc<Reactor>>,
        head: &[u8],
        body: &mut RequestBody,
        trailers: &mut dyn TrailerSource,
    ) -> Result<Option<Box<ResponseHead>>> {
        let stopped = match reactor {
            Some(reactor) => self.send_head_first(reactor, head).await?,
            None => self.write([head, b"", b""]).await?,
        };
        if stopped.is_some() {
            return Ok(stopped);
        }
        let stopped = match body {
            RequestBody::Bytes(bytes) if bytes.is_empty() => None,
            RequestBody::Bytes(bytes) => {
                let size = chunked::size_line(bytes.len() as u64);
                self.write([size.as_bytes(), bytes, b"\r\n"]).await?
            }
            RequestBody::File(file) if file.length == 0 => None,
            RequestBody::File(file) => self.file_as_chunk(file).await?,
            RequestBody::Chunked(source) => self.chunks(source).await?,
            RequestBody::Counted(..) => {
                let what = Kind::Misuse("trailers need a body that is not counted");
                return Err(self.connection.fail(what, Phase::Send));
            }
        };
        if stopped.is_some() {
            return Ok(stopped);
        }
        let end = self.last_chunk(trailers).map_err(|kind| self.connection.fail(kind, Phase::Send))?;
        self.write([&end, b"", b""]).await
    }

    fn last_chunk(&self, trailers: &mut dyn TrailerSource) -> std::result::Result<Vec<u8>, Kind> {
        let lines = trailers.lines(self.connection.wait_timeout.until())?;
        let end = chunked::last_chunk(lines.iter().map(|(name, value)| (name.as_ref(), value.as_ref())));
        end.map_err(|_| Kind::Misuse("a trailer that is no field line"))
    }

    async fn file_as_chunk(&mut self, file: &FileBody) -> Result<Option<Box<ResponseHead>>> {
        let size = chunked::size_line(file.length);
        let stopped = self.write([size.as_bytes(), b"", b""]).await?;
        if stopped.is_some() {
            return Ok(stopped);
        }
        let stopped = self.file(file).await?;
        if stopped.is_some() { Ok(stopped) } else { self.write([b"\r\n", b"", b""]).await }
    }

    async fn next_piece(&self, source: &mut Box<dyn crate::request::BodySource>) -> Result<Option<Bytes>> {
        let until = self.connection.wait_timeout.until();
        let piece = poll_fn(|cx| source.poll_next(cx, until)).await;
        piece.transpose().map_err(|kind| self.connection.fail(kind, Phase::Send))
    }

    /// Writes the parts one after the other, down to the socket.
    async fn write(&mut self, parts: [&[u8]; 3]) -> Result<Option<Box<ResponseHead>>> {
        self.connection.check_deadline(Phase::Send)?;
        let mut parts = parts.map(IoSlice::new);
        let mut parts = parts.as_mut_slice();
        // Empty parts in front would count as nothing written; those behind would cost a vectored write.
        IoSlice::advance_slices(&mut parts, 0);
        while parts.last().is_some_and(|part| part.is_empty()) {
            let length = parts.len() - 1;
            parts = parts.split_at_mut(length).0;
        }
        poll_fn(|cx| {
            while !parts.is_empty() {
                match self.connection.stream.poll_send(cx, parts) {
                    Poll::Ready(result) => {
                        let written = self.put(result)?;
                        IoSlice::advance_slices(&mut parts, written);
                    }
                    Poll::Pending => return self.poll_blocked(cx),
                }
            }
            if !self.connection.stream.holds_back() {
                return Poll::Ready(Ok(None));
            }
            match Pin::new(&mut self.connection.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(None)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(self.connection.fail(error.into(), Phase::Send))),
                Poll::Pending => self.poll_blocked(cx),
            }
        })
        .await
    }

    async fn file(&mut self, body: &FileBody) -> Result<Option<Box<ResponseHead>>> {
        let (mut offset, end) = (body.offset, body.offset.saturating_add(body.length));
        while offset < end {
            let room = usize::try_from(end - offset).unwrap_or(usize::MAX);
            let (sent, stopped) = match &self.connection.stream {
                #[cfg(target_os = "linux")]
                Stream::Socket(_) => self.file_by_kernel(body, offset, room).await?,
                _ => self.file_by_hand(body, offset, room.min(FILE_PIECE)).await?,
            };
            if stopped.is_some() {
                return Ok(stopped);
            }
            if sent == 0 {
                let what = Kind::Misuse("the file ended before its length was sent");
                return Err(self.connection.fail(what, Phase::Send));
            }
            offset += sent as u64;
        }
        Ok(None)
    }

    #[cfg(target_os = "linux")]
    async fn file_by_kernel(
        &mut self,
        body: &FileBody,
        offset: u64,
        room: usize,
    ) -> Result<(usize, Option<Box<ResponseHead>>)> {
        use std::os::fd::AsRawFd;
        // The stream gives other tasks their turn between pieces, however fast the peer takes them.
        let room = room.min(1024 * 1024);
        poll_fn(|cx| {
            let Stream::Socket(socket) = &mut self.connection.stream else { return Poll::Ready(Ok((0, None))) };
            match socket.poll_send_file(cx, body.file.as_raw_fd(), offset, room) {
                Poll::Ready(Ok(0)) => Poll::Ready(Ok((0, None))),
                Poll::Ready(result) => Poll::Ready(self.put(result).map(|sent| (sent, None))),
                Poll::Pending => self.poll_blocked(cx).map_ok(|stopped| (0, stopped)),
            }
        })
        .await
    }

    async fn file_by_hand(
        &mut self,
        body: &FileBody,
        offset: u64,
        room: usize,
    ) -> Result<(usize, Option<Box<ResponseHead>>)> {
        let piece = body.read_at(offset, room);
        let piece = piece.map_err(|error| self.connection.fail(Kind::Caller(error.into()), Phase::Send))?;
        let stopped = self.write([&piece, b"", b""]).await?;
        Ok((piece.len(), stopped))
    }

    fn put(&mut self, result: io::Result<usize>) -> Result<usize> {
        let written = match result {
            Ok(0) => Err(io::Error::from(io::ErrorKind::WriteZero)),
            other => other,
        };
        let written = written.map_err(|error| self.connection.fail(error.into(), Phase::Send))?;
        self.connection.wait_timeout.reset();
        self.sent += written as u64;
        self.connection.sent += written as u64;
        Ok(written)
    }

    /// Checks for an early response, since the peer accepts no more bytes for now.
    fn poll_blocked(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Box<ResponseHead>>>> {
        while self.listening {
            match self.connection.poll_fill(cx) {
                Poll::Pending => break,
                // No response will come. The writes will show whether the request can still be sent.
                Poll::Ready(Ok(0)) => self.listening = false,
                Poll::Ready(Err(error)) => {
                    let error = self.connection.fail(error.into(), Phase::Send);
                    // Any other error, a TLS alert for example, is the end of the connection, and may be reported only
                    // once.
                    if !error.is_disconnect() {
                        return Poll::Ready(Err(error));
                    }
                    self.listening = false;
                }
                Poll::Ready(Ok(_)) => {
                    if let Some(head) = self.final_head()? {
                        self.listening = false;
                        if refuses(&head) {
                            return Poll::Ready(Ok(Some(head)));
                        }
                        self.early = Some(head);
                    }
                }
            }
        }
        self.connection.poll_timeout(cx, Phase::Send)
    }

    fn final_head(&mut self) -> Result<Option<Box<ResponseHead>>> {
        while let Some(head) = self.connection.next_head(self.limits)? {
            if !head.is_interim() {
                return Ok(Some(Box::new(head)));
            }
        }
        Ok(None)
    }

    /// Sends the head alone, and waits for `100 Continue`.
    async fn send_head_first(&mut self, reactor: &Rc<Reactor>, head: &[u8]) -> Result<Option<Box<ResponseHead>>> {
        let stopped = self.write([head, b"", b""]).await?;
        if stopped.is_some() { Ok(stopped) } else { self.await_continue(reactor).await }
    }

    /// Waits for `100 Continue`. A final head means that the peer does not want the body.
    async fn await_continue(&mut self, reactor: &Rc<Reactor>) -> Result<Option<Box<ResponseHead>>> {
        let mut wait_timeout = WaitTimeout::new(reactor, None);
        wait_timeout.set(Some(CONTINUE_TIMEOUT), self.connection.wait_timeout.until());
        loop {
            while let Some(head) = self.connection.next_head(self.limits)? {
                if !head.is_interim() {
                    return Ok(Some(Box::new(head)));
                }
                if head.status == 100 {
                    return Ok(None);
                }
            }
            let filled = poll_fn(|cx| match self.connection.poll_fill(cx) {
                Poll::Ready(filled) => Poll::Ready(Some(filled)),
                Poll::Pending if wait_timeout.poll_elapsed(cx) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            })
            .await;
            match filled {
                None => {
                    self.connection.check_deadline(Phase::Head)?;
                    return Ok(None);
                }
                Some(Ok(0)) => return Err(self.connection.ended_in_head()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(self.connection.fail(error.into(), Phase::Head)),
            }
        }
    }

    /// Returns the final head, if the peer has sent it before it closed the connection.
    async fn last_words(&mut self) -> Result<ResponseHead> {
        match self.early.take() {
            Some(head) => Ok(*head),
            None => self.connection.read_head(self.limits).await,
        }
    }
}

/// Returns whether an early response means that the peer does not want the rest of the body. Any other may come from a
/// peer that goes on reading, an echo server for example.
fn refuses(head: &ResponseHead) -> bool {
    head.status >= 400 || head.headers.lists(b"connection", b"close")
}
